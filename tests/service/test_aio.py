"""The client for coroutines has the verbs of the other one, with the same answers and errors."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colreduce_service.server import WRITE, Server

from colreduce import AsyncClient, Client
from colreduce.errors import (
    BadInput,
    DeadlineExceeded,
    NotFound,
    ServiceError,
    ShapeMismatch,
    Unavailable,
)
from colreduce.results import Document
from tests.service.running import DIM, fill, serving, unit_vectors

EYE = np.eye(DIM, dtype=np.float32)
QUERIES = [unit_vectors(np.random.default_rng(n), 1 + n % 5) for n in range(40)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "copies").mkdir()
    fill(tmp_path / "indexes" / "papers", "ward(factor=2) | int8", documents=60)
    with serving(tmp_path / "indexes", snapshots=tmp_path / "copies") as running:
        yield running


def run(server: Server, work: Callable[[AsyncClient], Awaitable[Any]], **how: Any) -> Any:
    @asynccontextmanager
    async def connected() -> AsyncIterator[AsyncClient]:
        async with AsyncClient(server.listening, **{"timeout": 20, **how}) as client:
            yield client

    async def all_of_it() -> Any:
        async with connected() as client:
            return await work(client)

    return asyncio.run(all_of_it())


def verbs(kind: type) -> dict[str, str]:
    """Return the public methods of a client with their parameters and results."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: str(inspect.signature(one)) for name, one in found if not name.startswith("_")}


def test_both_clients_have_the_same_verbs_with_the_same_parameters() -> None:
    assert verbs(AsyncClient) == verbs(Client)
    assert len(verbs(Client)) >= 15
    waits = [getattr(AsyncClient, name) for name in verbs(AsyncClient)]
    assert all(inspect.iscoroutinefunction(one) for one in waits)
    made = [str(inspect.signature(kind.__init__)) for kind in (Client, AsyncClient)]
    assert made[0] == made[1]


def test_many_tasks_share_one_connection_and_get_what_the_other_client_gets(
    server: Server,
) -> None:
    async def ask(client: AsyncClient) -> list[Any]:
        return await asyncio.gather(*(client.search(one, k=5) for one in QUERIES))

    with Client(server.listening, timeout=20) as client:
        assert run(server, ask) == [client.search(one, k=5) for one in QUERIES]
        assert run(server, lambda one: one.search_many(QUERIES)) == client.search_many(QUERIES)
        assert run(server, lambda one: one.get(["doc-1"])) == client.get(["doc-1"])
        assert run(server, lambda one: one.describe()) == client.describe()
        assert run(server, lambda one: one.collections()) == client.collections()
        told = run(server, lambda one: one.explain(QUERIES[0], "doc-1"))
        assert told == client.explain(QUERIES[0], "doc-1")
        answer = run(server, lambda one: one.answer(QUERIES[0], k=1))
        assert answer.hits == client.search(QUERIES[0], k=1)
        assert answer.seconds["total"] > 0
    assert run(server, lambda one: one.health(WRITE)) == "SERVING"


def test_documents_are_written_and_collections_kept_from_coroutines(server: Server) -> None:
    seen = []

    async def work(client: AsyncClient) -> None:
        await client.create("new", "fp32 | exhaustive", dim=DIM)
        every = [Document(f"d-{n}", {"n": n}, None, EYE[n % DIM : n % DIM + 1]) for n in range(200)]
        bad = Document("bad", {}, None, np.eye(4))
        report = await client.upsert([*every, bad], collection="new", progress=seen.append)
        assert (report.written, [one.id for one in report.refused]) == (200, ["bad"])
        assert await client.add(["x"], embeddings=[EYE[:2]], collection="new") > report.generation
        with pytest.raises(ShapeMismatch):
            await client.add(["y"], embeddings=[np.eye(4)], collection="new")
        assert await client.delete(["d-0", "nobody"], collection="new") == 1
        await client.compact(collection="new")
        assert (await client.describe("new"))["documents"] == 200
        assert (await client.snapshot(collection="new")).bytes > 0
        assert await client.drop("new") == 200

    run(server, work)
    assert [one.written for one in seen] == [64, 128, 192, 200]


def test_an_upsert_whose_stream_was_cut_off_between_two_messages_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colreduce_service.guard.IDLE_SECONDS", 0.2)

    def slow() -> Iterator[Document]:
        for number in range(400):
            if number == 130:
                time.sleep(2)  # meanwhile the server tires of waiting
            yield Document(f"slow-{number}", vectors=EYE[:2])

    async def work(client: AsyncClient) -> None:
        report = await client.upsert(slow())
        assert (report.written, report.refused) == (400, ())

    run(server, work)


def test_errors_are_our_errors(server: Server) -> None:
    for work, kind in (
        (lambda client: client.get(["nobody"]), NotFound),
        (lambda client: client.search(np.eye(4)), ShapeMismatch),
        (lambda client: client.search([[float("nan")]]), BadInput),
        (lambda client: client.search_many(QUERIES * 50, timeout=1e-3), DeadlineExceeded),
    ):
        with pytest.raises(kind):
            run(server, work)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    async def ask() -> None:
        async with AsyncClient("127.0.0.1:1", timeout=1) as client:
            await client.search(EYE)

    with pytest.raises(Unavailable):
        asyncio.run(ask())


def test_a_client_belongs_to_a_running_loop_and_ends_once(server: Server) -> None:
    with pytest.raises(BadInput, match="inside a coroutine"):
        AsyncClient(server.listening)

    async def after_its_end() -> None:
        client = AsyncClient(server.listening)
        await client.close()
        for ask in (client.search(EYE), client.upsert([])):
            with pytest.raises(ServiceError, match="this client was closed"):
                await ask

    asyncio.run(after_its_end())


def test_a_task_that_is_cancelled_ends_its_call(server: Server) -> None:
    async def work(client: AsyncClient) -> float:
        began = time.monotonic()
        task = asyncio.create_task(client.search_many(QUERIES * 50, exact=True))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert run(server, work) < 5
    with Client(server.listening, timeout=20) as client:
        assert len(client.search(EYE)) == 10
