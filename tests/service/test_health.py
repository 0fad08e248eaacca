"""Health tells whether the server answers, reads and writes, and of which collection."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from colreduce_service import health as health_module
from colreduce_service.health_command import health
from colreduce_service.server import ADMIN, SEARCH, WRITE, Server
from colreduce_service.settings import Settings
from grpc_health.v1 import health_pb2, health_pb2_grpc

from colreduce import Client, Index
from colreduce.errors import DiskFull, ReadOnly
from colreduce.rpc import codec, upload
from colreduce.rpc.v1 import write_pb2
from tests.service.running import DIM, failing_disk, fill, scraped, serving, until

RECIPE = "fp32 | exhaustive | maxsim"
MEASURED: Any = {"metrics": "127.0.0.1:0"}
EYE = np.eye(DIM, dtype=np.float32)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    fill(tmp_path / "idx", RECIPE, documents=5)
    return tmp_path / "idx"


@pytest.fixture
def server(index: Path) -> Iterator[Server]:
    with serving(index, **MEASURED) as running:
        yield running


def states(server: Server) -> tuple[bool, bool]:
    """Return whether the server reads and whether it writes, as all that can be asked agree."""
    address, found = server.listening, []
    metrics = scraped(server.metrics)
    for service, word in ((SEARCH, "search"), (WRITE, "write")):
        with Client(address) as client:
            checked = client.health(service)
        with grpc.insecure_channel(address) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            watched = next(iter(health_pb2_grpc.HealthStub(channel).Watch(request, timeout=5)))
        ran = CliRunner().invoke(health, [address, "--service", word])
        assert ran.stdout.strip() == checked
        assert (checked == "SERVING") == (watched.status == health_module.SERVING)
        assert ran.exit_code == (0 if checked == "SERVING" else 1)
        assert metrics["colreduce_serving", word.title()] == (checked == "SERVING")
        found.append(checked == "SERVING")
    return found[0], found[1]


def test_a_server_that_is_opening_is_not_ready(index: Path) -> None:
    opening = Server(index, Settings(listen="127.0.0.1:0", linger=0.0, **MEASURED))
    opening._grpc.start()
    try:
        assert states(opening) == (False, False)
    finally:
        opening.drain()


def test_a_server_that_is_ready_reads_and_writes(server: Server) -> None:
    assert states(server) == (True, True)
    with Client(server.listening) as client:
        named = ("", ADMIN, f"{SEARCH}/idx", f"{WRITE}/idx")
        assert [client.health(one) for one in named] == ["SERVING"] * 4


def test_a_damaged_collection_is_told_from_the_others(index: Path, tmp_path: Path) -> None:
    fill(tmp_path / "bad", RECIPE, documents=5)
    code = next((tmp_path / "bad").glob("segments/*/pack.bin"))
    code.chmod(0o644)
    code.write_bytes(bytes(code.stat().st_size))
    with serving(tmp_path, **MEASURED) as server, Client(server.listening) as client:
        assert states(server) == (True, True)
        named = [f"{service}/{one}" for one in ("bad", "idx") for service in (SEARCH, WRITE)]
        assert [client.health(one) for one in named] == ["NOT_SERVING"] * 2 + ["SERVING"] * 2
        ran = CliRunner().invoke(health, [server.listening, "--collection", "bad"])
        assert (ran.exit_code, ran.stdout) == (1, "NOT_SERVING\n")


def test_a_draining_server_is_not_ready(server: Server) -> None:
    server.health.say_goodbye()
    assert states(server) == (False, False)
    server.tell_health()
    assert states(server) == (False, False)


def test_a_full_disk_ends_writing_and_not_reading_and_heals_by_itself(server: Server) -> None:
    with Client(server.listening, timeout=20) as client:
        with failing_disk("1+:ENOSPC"):
            report = client._stubs["Write"].Upsert(iter([_one("a")]), timeout=10)
            [item] = next(report).items
            assert item.reason == "DISK_FULL"
            assert states(server) == (True, False)
            assert client.describe()["write_problem"]
            assert len(client.search(EYE[:1], k=3)) == 3
        until(lambda: client.health(WRITE) == "SERVING")
        assert states(server) == (True, True)
        assert client.add(["a"], embeddings=[EYE[:2]])


def test_a_failed_fsync_ends_writing_for_good_and_not_reading(server: Server) -> None:
    with Client(server.listening, timeout=20) as client:
        number = 0
        while client.describe()["writable"]:
            number += 1
            with failing_disk(f"{number}:EIO"), pytest.raises(Exception, match=r".+"):
                client.add([f"a-{number}"], embeddings=[EYE[:2]])
            assert number < 60
        assert states(server) == (True, False)
        assert "Restart" in client.describe()["write_problem"]
        with pytest.raises(ReadOnly):
            client.add(["b"], embeddings=[EYE[:2]])
        assert len(client.search(EYE[:1], k=3)) == 3


def test_an_index_that_another_process_writes_is_read_and_not_written(index: Path) -> None:
    with Index.open(index) as other:
        other.acquire()
        with serving(index, **MEASURED) as server:
            assert states(server) == (True, False)


def test_a_replica_reads_and_does_not_write(index: Path) -> None:
    with serving(index, read_only=True, **MEASURED) as server:
        assert states(server) == (True, False)


def test_watchers_are_told_of_a_change_at_once_and_a_silent_one_holds_up_nobody(
    server: Server,
) -> None:
    with grpc.insecure_channel(server.listening) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SEARCH)
        silent = [stub.Watch(request) for _ in range(20)]
        watched = stub.Watch(request)
        assert next(watched).status == health_module.SERVING
        threading.Timer(0.1, server.health.say_goodbye).start()
        assert next(watched).status == health_module.NOT_SERVING
        for one in [*silent, watched]:
            one.cancel()
        until(lambda: server.health._watchers == 0)


def test_a_service_that_is_not_known_may_come_to_be(server: Server) -> None:
    with grpc.insecure_channel(server.listening) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="later"))
        assert next(watched).status == health_module.UNKNOWN
        server.health.say({**server.health.state(), "later": True})
        assert next(watched).status == health_module.SERVING
        watched.cancel()


def test_a_server_that_cannot_be_reached_is_not_ready() -> None:
    ran = CliRunner().invoke(health, ["127.0.0.1:1", "--timeout", "1", "--json"])
    assert ran.exit_code == 1
    assert '"state": "UNREACHABLE"' in ran.stdout
    for wrong in (["nowhere"], ["--ca", "no-such-file"]):
        assert CliRunner().invoke(health, wrong).exit_code == 2


def test_a_collection_that_is_not_there_is_told_from_a_server_that_is_not(server: Server) -> None:
    ran = CliRunner().invoke(health, [server.listening, "--collection", "nope"])
    assert (ran.exit_code, ran.stdout) == (1, "SERVICE_UNKNOWN\n")
    assert "has no collection 'nope'" in ran.stderr


def _one(one: str) -> write_pb2.UpsertRequest:
    document = write_pb2.NewDocument(id=one, vectors=codec.to_tokens(EYE[:2]))
    return write_pb2.UpsertRequest(documents=[document])


def test_a_full_disk_reaches_the_caller_as_such_when_it_has_tried_for_a_while(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "FIRST_PAUSE", 0.01)
    with (
        Client(server.listening, timeout=20) as client,
        failing_disk("1+:ENOSPC"),
        pytest.raises(DiskFull),
    ):
        client.add(["a"], embeddings=[EYE[:2]])


def test_a_watcher_that_comes_while_the_server_ends_does_not_hold_it_up(index: Path) -> None:
    stop = threading.Event()

    def watch(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not stop.is_set():
                with contextlib.suppress(grpc.RpcError):
                    list(stub.Watch(health_pb2.HealthCheckRequest(), timeout=5))

    with serving(index, **MEASURED) as server:
        watchers = [threading.Thread(target=watch, args=(server.listening,)) for _ in range(8)]
        for one in watchers:
            one.start()
        until(lambda: server.health._watchers == 8)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    stop.set()
    for one in watchers:
        one.join()
