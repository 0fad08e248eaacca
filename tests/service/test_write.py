"""Documents are put and deleted over the wire: each is answered for, and what is acknowledged is
on the disk."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from colreduce_service.access import BELIEVED_SECONDS, new_token
from colreduce_service.guard import STREAMS

from colreduce import Client, Index
from colreduce.errors import AccessDenied, BadInput, NotFound, ReadOnly, ShapeMismatch
from colreduce.results import Document
from colreduce.rpc import codec, limits, upload
from colreduce.rpc.v1 import write_pb2, write_pb2_grpc
from tests.service.running import DIM, Running, fill, serving, unit_vectors, until

RNG = np.random.default_rng(3)
RECIPE = "fp32 | exhaustive | maxsim"


def document(one: str, tokens: int = 3, **metadata: Any) -> Document:
    return Document(one, metadata, f"text of {one}", unit_vectors(RNG, tokens))


@pytest.fixture
def index(tmp_path: Path) -> Path:
    fill(tmp_path / "idx", RECIPE, documents=20)
    return tmp_path / "idx"


@pytest.fixture
def client(index: Path) -> Iterator[Client]:
    with serving(index) as server, Client(server.listening, timeout=20) as opened:
        yield opened


def upsert(address: str, *requests: Any, **how: Any) -> list[Any]:
    """Send requests as another client would, and return the answers."""
    with grpc.insecure_channel(address) as channel:
        stub = write_pb2_grpc.WriteStub(channel)
        return list(stub.Upsert(iter(requests), timeout=20, **how))


def new(one: str, matrix: Any = None, **fields: Any) -> write_pb2.NewDocument:
    vectors = codec.to_tokens(np.eye(DIM)[:2] if matrix is None else matrix)
    return write_pb2.NewDocument(**{"id": one, "vectors": vectors, **fields})


def test_what_was_acknowledged_survives_the_death_of_the_server(index: Path) -> None:
    with Running(index) as server, server.client(timeout=20) as client:
        generation = client.add(
            ["new", "doc-3"], ["one", "two"], embeddings=[np.eye(DIM)[:1], -np.eye(DIM)[:1]]
        )
        [hit] = client.search(np.eye(DIM)[:1], k=1)
        assert (hit.id, client.delete(["doc-7", "nobody"])) == ("new", 1)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    with Index.open(index) as after:
        assert (len(after), after.generation) == (20, generation + 1)
        assert [one.text for one in after.get(["new", "doc-3"])] == ["one", "two"]
        with pytest.raises(NotFound):
            after.get(["doc-7"])


def test_a_refused_document_names_its_field_and_does_not_keep_the_others_out(index: Path) -> None:
    nan = new("nan")
    nan.vectors.data = np.full((2, DIM), np.nan, "<f4").tobytes()
    given = {
        "good": (new("good"), ""),
        "nan": (nan, ".vectors.data"),
        "narrow": (new("narrow", np.eye(4)), ".vectors.dim"),
        "id": (new("bad\0id"), ".id"),
        "long id": (new("x" * 257), ".id"),
        "again": (new("good"), ".id"),
        "json": (new("json", metadata_json="{"), ".metadata_json"),
        "big": (new("big", metadata_json='{"a":"' + "b" * 17_000 + '"}'), ".metadata_json"),
        "nothing": (write_pb2.NewDocument(id="nothing"), ""),
        "text alone": (write_pb2.NewDocument(id="text", text="words"), ".text"),
        "good, too": (new("good, too", metadata_json='{"n":1}', text="words"), ""),
    }
    with serving(index) as server:
        request = write_pb2.UpsertRequest(documents=[one for one, _ in given.values()])
        [answer] = upsert(server.listening, request)
        with Client(server.listening, timeout=20) as client:
            kept = client.get(["good", "good, too"])
            assert client.describe()["documents"] == 22
    codes = [item.code for item in answer.items]
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert codes == [0, *[invalid] * 9, 0]
    assert [item.id for item in answer.items][:2] == ["good", "nan"]
    for place, (_, field) in enumerate(given.values()):
        expected = f"documents[{place}]{field}" if codes[place] else ""
        assert answer.items[place].field == expected
    assert answer.generation == 3
    assert (kept[1].text, kept[1].metadata) == ("words", {"n": 1})


def test_the_report_of_an_upsert_holds_what_was_refused_as_our_errors(client: Client) -> None:
    bad = Document("bad", {}, None, np.eye(DIM - 1)[:2])
    seen = []
    report = client.upsert([document("a"), bad, document("b")], progress=seen.append)
    assert (report.written, report.generation) == (2, 3)
    [refusal] = report.refused
    assert (refusal.id, type(refusal.error)) == ("bad", ShapeMismatch)
    assert seen == [report]
    with pytest.raises(ShapeMismatch):
        client.add(["c", "bad"], embeddings=[np.eye(DIM)[:2], np.eye(DIM - 1)[:2]])
    assert client.get(["c"])[0].id == "c"
    with pytest.raises(BadInput, match="nothing to index"):
        client.add(["empty"])


def test_documents_that_cannot_be_sent_are_refused_one_by_one(client: Client) -> None:
    half = "half a \ud83d"
    bad = {
        "empty": (Document("empty"), "nothing to index"),
        "set": (Document("set", {"tags": {"a"}}, "words", np.eye(DIM)), "written as JSON"),
        "half": (Document("half", {}, half, np.eye(DIM)), "half of a character"),
        "key": (Document("key", {half: 1}, "words", np.eye(DIM)), "half of a character"),
        "nan": (Document("nan", {}, "words", np.full((2, DIM), np.nan)), "finite numbers"),
        "huge": (Document("huge", {}, "x" * limits.MESSAGE_BYTES, np.eye(DIM)), "half precision"),
        "7": (Document(7, {}, "words", np.eye(DIM)), "an id is a string"),  # type: ignore[arg-type]
    }
    given = [document("a"), *(one for one, _ in bad.values()), document("b")]
    report = client.upsert(given)
    assert report.written == 2
    assert [refusal.id for refusal in report.refused] == list(bad)
    for refusal in report.refused:
        assert isinstance(refusal.error, BadInput)
        assert bad[refusal.id][1] in str(refusal.error)
        assert refusal.error.field is not None
        assert refusal.error.field.startswith("documents[")
    assert [one.id for one in client.get(["a", "b"])] == ["a", "b"]
    assert client.upsert([Document("empty")]).written == 0


def test_what_is_no_list_of_documents_is_refused_before_anything_is_sent(client: Client) -> None:
    for wrong in (document("a"), 7, None, "words", [document("a"), "words"]):
        with pytest.raises(BadInput) as caught:
            client.upsert(wrong)  # type: ignore[arg-type]
        assert caught.value.field is not None
        assert caught.value.field.startswith("documents")


def test_more_documents_than_one_message_holds_arrive_whole(client: Client) -> None:
    count = 3 * upload.MESSAGE_DOCUMENTS + 5
    seen = []
    report = client.upsert(
        (document(f"new-{n}", n=n) for n in range(count)),
        progress=lambda one: seen.append(one.written),
    )
    assert (report.written, report.refused) == (count, ())
    assert seen == [64, 128, 192, 197]
    found = client.get([f"new-{n}" for n in range(count)])
    assert [one.metadata["n"] for one in found] == list(range(count))


def test_changes_of_many_callers_are_committed_together(index: Path) -> None:
    with serving(index) as server, Client(server.listening, timeout=20) as client:
        before = client.describe()["generation"]

        def put(number: int) -> int:
            return client.add([f"new-{number}"], embeddings=[np.eye(DIM)[:2]])

        with ThreadPoolExecutor(16) as pool:
            generations = list(pool.map(put, range(96)))
        assert client.describe()["documents"] == 20 + 96
        assert max(generations) - before < 96


def test_a_stream_writes_to_one_collection(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fill(tmp_path / name, RECIPE, documents=3)
    with serving(tmp_path) as server:
        first = write_pb2.UpsertRequest(collection="one", documents=[new("a")])
        second = write_pb2.UpsertRequest(documents=[new("b")])
        assert [one.generation for one in upsert(server.listening, first, second)] == [3, 4]
        other = write_pb2.UpsertRequest(collection="two", documents=[new("c")])
        with pytest.raises(grpc.RpcError, match="open another for 'two'"):
            upsert(server.listening, first, other)
        with Client(server.listening, timeout=20) as client:
            assert client.describe("two")["documents"] == 3


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (write_pb2.UpsertRequest(), "documents"),
        (write_pb2.UpsertRequest(documents=[new(str(n)) for n in range(257)]), "documents"),
        (write_pb2.UpsertRequest(collection="../x", documents=[new("a")]), "collection"),
        (write_pb2.DeleteRequest(), "ids"),
        (write_pb2.DeleteRequest(ids=["a", ""]), "ids[1]"),
        (write_pb2.DeleteRequest(ids=["a"] * 257), "ids"),
    ],
)
def test_a_request_that_cannot_be_used_changes_nothing(
    index: Path, request_: Any, field: str
) -> None:
    with serving(index) as server, grpc.insecure_channel(server.listening) as channel:
        stub = write_pb2_grpc.WriteStub(channel)
        deletes = isinstance(request_, write_pb2.DeleteRequest)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Delete(request_, timeout=10) if deletes else list(stub.Upsert(iter([request_])))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in str(caught.value.trailing_metadata())
        assert server.indexes.get("").index.generation == 2


def test_who_may_only_read_cannot_write(index: Path, tmp_path: Path) -> None:
    reader, reads = new_token("ada", "read")
    writer, writes = new_token("bob", "write")
    (tmp_path / "tokens").write_text(f"{reads.line()}\n{writes.line()}\n")
    with serving(index, tokens=tmp_path / "tokens") as server:
        with Client(server.listening, token=reader) as ada:
            with pytest.raises(AccessDenied, match="this takes write"):
                ada.add(["a"], embeddings=[np.eye(DIM)[:2]])
            with pytest.raises(AccessDenied, match="this takes write"):
                ada.delete(["doc-1"])
        with Client(server.listening, token=writer) as bob:
            assert bob.add(["a"], embeddings=[np.eye(DIM)[:2]]) == 3
            with pytest.raises(AccessDenied, match="this takes admin"):
                bob.compact()


def test_a_token_that_is_taken_away_ends_a_stream_that_is_open(index: Path, tmp_path: Path) -> None:
    token, entry = new_token("bob", "write")
    file = tmp_path / "tokens"
    file.write_text(entry.line())
    with (
        serving(index, tokens=file) as server,
        grpc.insecure_channel(server.listening) as channel,
    ):
        go_on = threading.Event()

        def requests() -> Iterator[write_pb2.UpsertRequest]:
            yield write_pb2.UpsertRequest(documents=[new("before")])
            go_on.wait(10)
            yield write_pb2.UpsertRequest(documents=[new("after")])

        metadata = [("authorization", f"Bearer {token}")]
        answers = write_pb2_grpc.WriteStub(channel).Upsert(requests(), metadata=metadata)
        assert next(answers).generation == 3
        file.write_text("")
        time.sleep(BELIEVED_SECONDS)
        go_on.set()
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "after" not in server.indexes.get("").index


def test_another_writer_keeps_the_server_out_until_it_goes(index: Path) -> None:
    with Index.open(index) as other:
        other.acquire()
        with serving(index) as server, Client(server.listening, timeout=20) as client:
            with pytest.raises(Exception, match=str(os.getpid())):
                client.add(["a"], embeddings=[np.eye(DIM)[:2]])
            assert "writing" in client.describe()["write_problem"]
            other.close()
            until(lambda: client.describe()["writable"])
            assert client.add(["a"], embeddings=[np.eye(DIM)[:2]]) == 3


def test_a_read_only_server_follows_and_does_not_write(index: Path) -> None:
    with serving(index, read_only=True) as server, Client(server.listening, timeout=20) as client:
        with pytest.raises(ReadOnly, match="--read-only"):
            client.add(["a"], embeddings=[np.eye(DIM)[:2]])
        with pytest.raises(ReadOnly, match="--read-only"):
            client.delete(["doc-1"])
        with Index.open(index) as other:
            other.add(["a"], embeddings=[np.eye(DIM)[:2]])
        until(lambda: client.describe()["documents"] == 21)


def test_an_upsert_goes_on_where_a_connection_broke(index: Path) -> None:
    first = Running(index)
    listen = first.address
    state: dict[str, Any] = {"server": first}

    def restart(report: Any) -> None:
        if report.written == 128 and state["server"] is first:
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait()
            state["server"] = Running(index, "--listen", listen)

    with first, Client(listen, timeout=20) as client:
        every = [f"new-{n}" for n in range(320)]
        report = client.upsert((document(one) for one in every), progress=restart)
        assert report.refused == ()
        assert state["server"] is not first
        assert [one.id for one in client.get(every)] == every
    with state["server"] as second:
        assert second.stop()[0] == 0


def test_a_server_takes_so_many_streams_and_says_so_to_the_next(index: Path) -> None:
    with serving(index) as server, grpc.insecure_channel(server.listening) as channel:
        stub = write_pb2_grpc.WriteStub(channel)
        done = threading.Event()

        def silent() -> Iterator[write_pb2.UpsertRequest]:
            yield write_pb2.UpsertRequest(documents=[new("a")])
            done.wait(30)

        streams = [stub.Upsert(silent()) for _ in range(STREAMS)]
        assert all(next(stream).items[0].code == 0 for stream in streams)
        with pytest.raises(grpc.RpcError) as caught:
            upsert(server.listening, write_pb2.UpsertRequest(documents=[new("b")]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        streams[0].cancel()
        until(lambda: _takes_another(server.listening))
        done.set()


def _takes_another(address: str) -> bool:
    try:
        return bool(upsert(address, write_pb2.UpsertRequest(documents=[new("b")])))
    except grpc.RpcError:
        return False


def test_a_stream_that_says_nothing_does_not_hold_up_the_end_of_the_server(index: Path) -> None:
    done = threading.Event()
    with (
        Running(index, "--linger", "0") as server,
        grpc.insecure_channel(server.address) as channel,
    ):

        def silent() -> Iterator[write_pb2.UpsertRequest]:
            yield write_pb2.UpsertRequest(documents=[new("a")])
            done.wait(30)

        answers = write_pb2_grpc.WriteStub(channel).Upsert(silent())
        assert next(answers).generation == 3
        code, _ = server.stop()
        assert code == 0
        with pytest.raises(grpc.RpcError):
            next(answers)
        done.set()
    with Index.open(index) as after:
        assert "a" in after


def test_the_newer_of_two_documents_of_one_id_stays_when_the_older_is_sent_again() -> None:
    given = [document("x", n=1), *[document(f"y-{n}") for n in range(63)], document("x", n=2)]
    under_way = upload.Upload(given, "")
    sent = [under_way.next_message() for _ in range(2)]
    busy = write_pb2.UpsertResponse(
        items=[
            write_pb2.ItemStatus(id=one.id, code=8, reason="OVERLOADED")
            for one in sent[0].documents
        ]
    )
    under_way.answered(busy)
    again = under_way.next_message()
    assert "x" not in [one.id for one in again.documents]
    assert len(again.documents) == 63


def test_documents_are_bounded_by_what_one_message_takes() -> None:
    assert upload.MESSAGE_DOCUMENTS <= limits.DOCUMENTS
    assert upload.MESSAGE_BYTES < limits.MESSAGE_BYTES / 2
