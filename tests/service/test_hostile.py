"""P11, P12: nothing that is sent leads out of the folder, fills the memory or ends the server."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from colreduce_service.methods import RULES

from colreduce.rpc import codec, limits
from colreduce.rpc.v1 import admin_pb2, search_pb2, write_pb2
from tests.service.running import DIM, Running, fill, unit_vectors
from tests.service.tiers import note, size

Code = grpc.StatusCode

# What a payload may be answered with. INTERNAL is not among them.
DECLARED = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION,
    Code.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED,
}

MEBI = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    fill(root / "served" / "idx", "fp32 | exhaustive | maxsim", documents=20)
    (root / "outside").mkdir()
    (root / "outside" / "canary").write_text("still here")
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with Running(folder / "served", "--listen=127.0.0.1:0") as running:
        yield running
        assert running.process.poll() is None
        code, said = running.stop()
        assert (code, "incident" in said) == (0, False)


def healthy(server: Running) -> bool:
    # Named, because a broken payload may have been a sound wish for another collection.
    with server.client(collection="idx", timeout=10) as client:
        return client.health() == "SERVING" and len(client.search(np.eye(DIM), k=3)) == 3


def memory(server: Running) -> int:
    """Return the bytes of memory that the process holds."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def names() -> list[str]:
    """Return names that would lead elsewhere if somebody made a path of them."""
    parts = ["..", "../..", "/", "//", ".", "...", "~", "~root", "%2e%2e", "..%2f", "..%5c", "..\\"]
    parts += ["\u2215etc", "\uff0e\uff0e/", "\u202e", "\0", "a\0b", "con", "nul", "aux.txt"]
    parts += ["C:", "\\\\host\\share", "file:///", "$(id)", "`id`", ";id", "|id", "\n", "\r\n"]
    ends = ["", "/etc/passwd", "/outside/canary", "outside", "/idx", "../outside/canary"]
    return list(dict.fromkeys(start + end for start in parts for end in ends))


def call(channel: grpc.Channel, method: str, payload: bytes, **how: Any) -> Code:
    """Send bytes to a method, and return the code of the answer."""
    how = {"timeout": 20, **how}
    try:
        if method.endswith("/Upsert"):
            list(channel.stream_stream(method)(iter([payload]), **how))
        else:
            channel.unary_unary(method)(payload, **how)
    except grpc.RpcError as error:
        return error.code()
    return Code.OK


def test_no_name_leads_out_of_the_folder(server: Running, folder: Path) -> None:
    assert len(names()) > 150
    codes = set()
    with grpc.insecure_channel(server.address) as channel:
        for name in names():
            if limits.NAME.fullmatch(name):  # a word that some other system reserves
                continue
            for request, method in (
                (admin_pb2.CreateCollectionRequest(name=name, dim=4), "Admin/CreateCollection"),
                (admin_pb2.DropCollectionRequest(name=name), "Admin/DropCollection"),
                (
                    admin_pb2.CreateCollectionRequest(name="x", dim=4, recipe=name),
                    "Admin/CreateCollection",
                ),
                (
                    admin_pb2.CreateCollectionRequest(name="x", encoder=name),
                    "Admin/CreateCollection",
                ),
                (admin_pb2.DescribeRequest(collection=name), "Admin/Describe"),
                (search_pb2.GetRequest(ids=[name]), "Search/Get"),
            ):
                sent = request.SerializeToString()
                codes.add(call(channel, f"/colreduce.rpc.v1.{method}", sent))
    assert codes <= {Code.INVALID_ARGUMENT, Code.NOT_FOUND}
    assert sorted(one.name for one in folder.iterdir()) == ["outside", "served"]
    assert [one.name for one in (folder / "served").iterdir()] == ["idx"]
    assert (folder / "outside" / "canary").read_text() == "still here"
    assert healthy(server)


def test_an_id_may_be_any_name_and_never_becomes_a_path(server: Running, folder: Path) -> None:
    with server.client(collection="idx", timeout=20) as client:
        ids = [name for name in names() if name.isprintable() and len(name.encode()) <= 256]
        client.add(ids, embeddings=[np.eye(DIM)[:1]] * len(ids))
        assert [one.id for one in client.get(ids)] == ids
        assert client.delete(ids) == len(ids)
    assert (folder / "outside" / "canary").read_text() == "still here"
    assert sorted(one.name for one in folder.iterdir()) == ["outside", "served"]


def test_metadata_and_filters_that_nest_deep_are_refused(server: Running) -> None:
    deep = '{"a":' * 10_000 + "1" + "}" * 10_000
    vectors = codec.to_tokens(np.eye(DIM)[:1])
    new = write_pb2.NewDocument(id="deep", vectors=vectors, metadata_json=deep[: 16 << 10])
    query = search_pb2.Query(vectors=vectors)
    with grpc.insecure_channel(server.address) as channel:
        upsert = channel.stream_stream(
            "/colreduce.rpc.v1.Write/Upsert",
            write_pb2.UpsertRequest.SerializeToString,
            write_pb2.UpsertResponse.FromString,
        )
        [answer] = upsert(
            iter([write_pb2.UpsertRequest(collection="idx", documents=[new])]), timeout=10
        )
        assert answer.items[0].field == "documents[0].metadata_json"
        for text in (deep, deep[: 16 << 10], "(" * 16_000, "not " * 4_000, "a = 1 and " * 1_600):
            sent = search_pb2.SearchRequest(
                collection="idx", query=query, filter=text
            ).SerializeToString()
            code = call(channel, "/colreduce.rpc.v1.Search/Search", sent)
            assert code is Code.INVALID_ARGUMENT, text[:20]


def test_messages_at_the_limit_from_many_callers_at_once_fit_into_memory(server: Running) -> None:
    limit = limits.MESSAGE_BYTES
    base = memory(server)
    highest = [base]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            highest.append(memory(server))

    padding = search_pb2.SearchRequest(filter="x" * (limit - 100)).SerializeToString()
    beyond = search_pb2.SearchRequest(filter="x" * limit).SerializeToString()
    assert len(padding) < limit < len(beyond)

    def send(number: int) -> Code:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            payload = beyond if number % 8 == 0 else padding
            return call(channel, "/colreduce.rpc.v1.Search/Search", payload)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(send, range(64)))
    stop.set()
    watcher.join()
    assert {codes[number] for number in range(0, 64, 8)} == {Code.RESOURCE_EXHAUSTED}
    # The others wait for their turn, and a slow one may have made room.
    assert set(codes) <= {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.CANCELLED}
    assert codes.count(Code.INVALID_ARGUMENT) >= 8
    note("P11", "64 messages of 8 MiB at once", peak_bytes=max(highest) - base)
    assert max(highest) - base < 512 * MEBI
    assert healthy(server)


def seeds() -> dict[str, list[bytes]]:
    """Return sound requests of every method, to be broken."""
    vectors = codec.to_tokens(unit_vectors(np.random.default_rng(1), 3))
    query = search_pb2.Query(vectors=vectors)
    new = write_pb2.NewDocument(id="new", vectors=vectors, metadata_json='{"a": [1, 2.5, "x"]}')
    requests = {
        "Search/Search": search_pb2.SearchRequest(query=query, k=3, filter="number < 7"),
        "Search/BatchSearch": search_pb2.BatchSearchRequest(queries=[query, query], exact=True),
        "Search/Get": search_pb2.GetRequest(ids=["doc-1", "doc-2"]),
        "Search/Explain": search_pb2.ExplainRequest(query=query, id="doc-3"),
        "Write/Upsert": write_pb2.UpsertRequest(documents=[new, new]),
        "Write/Delete": write_pb2.DeleteRequest(ids=["doc-1"]),
        "Admin/ListCollections": admin_pb2.ListCollectionsRequest(),
        "Admin/Describe": admin_pb2.DescribeRequest(collection="idx"),
        "Admin/CreateCollection": admin_pb2.CreateCollectionRequest(
            name="no name", recipe="ward(factor=2) | int8", dim=16
        ),
        "Admin/Compact": admin_pb2.CompactRequest(collection="idx", purge=True),
        "Admin/Snapshot": admin_pb2.SnapshotRequest(collection="idx"),
        "Admin/DropCollection": admin_pb2.DropCollectionRequest(name="no name"),
    }
    return {
        f"/colreduce.rpc.v1.{name}": [one.SerializeToString()] for name, one in requests.items()
    }


def broken(draw: random.Random, sound: bytes) -> bytes:
    """Return bytes that are nearly a sound message, or nothing like it."""
    way = draw.randrange(6)
    if way == 0 or not sound:
        return draw.randbytes(draw.randrange(200))
    made = bytearray(sound)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(len(made))
        if way == 1:
            made[place] = draw.randrange(256)
        elif way == 2:
            made[place] ^= 1 << draw.randrange(8)
        elif way == 3:
            del made[place:]
            break
        elif way == 4:
            made[place:place] = made[: draw.randrange(40)]
        else:
            made[place : place + draw.randrange(1, 20)] = b""
            if not made:
                break
    return bytes(made)


def test_no_payload_ends_the_server_or_is_an_incident(server: Running) -> None:
    every = seeds()
    assert set(every) == set(RULES)
    draw = random.Random(20)
    counted: dict[Code, int] = {}
    with grpc.insecure_channel(server.address) as channel:
        for number in range(size(1_500, 50_000)):
            method = list(every)[number % len(every)]
            code = call(channel, method, broken(draw, every[method][0]))
            counted[code] = counted.get(code, 0) + 1
            assert code in DECLARED, (method, code)
    note("P12", "broken payloads", codes={code.name: count for code, count in counted.items()})
    assert counted[Code.INVALID_ARGUMENT] > 300
    assert counted[Code.OK] > 50
    assert healthy(server)


def test_what_is_no_http_2_hurts_nobody(server: Running) -> None:
    host, port = server.address.rsplit(":", 1)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    draw = random.Random(21)
    for number in range(size(300, 2_000)):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            start = preface if number % 2 else b""
            kind, length = draw.randrange(12), draw.randrange(1 << 14)
            frame = struct.pack(">I", length)[1:] + bytes([kind, draw.randrange(256)])
            connection.sendall(start + frame + draw.randbytes(draw.randrange(400)))
    assert healthy(server)


def test_streams_that_are_opened_and_cancelled_at_once_hurt_nobody(server: Running) -> None:
    request = search_pb2.SearchRequest(
        query=search_pb2.Query(vectors=codec.to_tokens(np.eye(DIM)))
    ).SerializeToString()
    base = memory(server)
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary("/colreduce.rpc.v1.Search/Search")
        for _ in range(size(2_000, 10_000)):
            method.future(request, timeout=20).cancel()
        began = time.monotonic()
        assert healthy(server)
        assert time.monotonic() - began < 10
    grown = memory(server) - base
    note("P12", "streams opened and cancelled", count=size(2_000, 10_000), grown_bytes=grown)
    assert grown < 64 * MEBI
