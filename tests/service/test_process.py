"""The server as a process: addresses, health, reflection, newer generations, and its end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from colreduce_service.addresses import is_loopback, split_address
from colreduce_service.command import serve
from colreduce_service.server import SERVICES
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from colreduce import Client, Index
from colreduce.errors import BadInput, NotFound, Unavailable
from colreduce.rpc.v1 import admin_pb2, admin_pb2_grpc
from tests.service.running import COMMAND, DIM, Running, fill


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, timeout=60
    )


def test_port_zero_is_a_free_port_and_the_real_one_is_said(server: Running) -> None:
    host, port = server.address.rsplit(":", 1)
    assert host == "127.0.0.1"
    assert int(port) > 0
    assert server.facts["settings"]["reflection"] is True
    assert [one["name"] for one in server.facts["collections"]] == ["broken", "reduced", "staged"]
    assert [one["ready"] for one in server.facts["collections"]] == [False, True, True]


def test_a_second_server_on_the_same_port_is_refused(server: Running, folder: Path) -> None:
    second = refused(str(folder), "--listen", server.address)
    assert second.returncode == 1
    assert f"cannot listen on {server.address}" in second.stderr
    assert "Traceback" not in second.stderr
    assert second.stdout == ""


def test_a_socket_that_a_server_listens_on_is_not_taken_from_it(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "colreduce.sock"
    for listen in (f"unix:{path}", f"unix://{path}"):
        with Running(folder, "--read-only", "--listen", listen) as first:
            second = refused(str(folder), "--read-only", "--listen", listen)
            assert second.returncode == 1
            assert f"cannot listen on {listen}: another program does already" in second.stderr
            with first.client(collection="reduced") as client:
                assert len(client.search(np.eye(DIM)[:1], k=3)) == 3
            # Who is killed leaves the socket behind, and that one is taken over.
            first.process.kill()
            first.process.wait()
        assert path.is_socket()
    with Running(folder, "--read-only", "--listen", f"unix:{path}") as third:
        assert third.stop()[0] == 0


def test_servers_share_a_port_when_all_of_them_say_so(folder: Path) -> None:
    more = ("--read-only", "--share-port", "--log-requests")
    with Running(folder, *more) as first:
        with Running(folder, *more, "--listen", first.address) as second:
            assert second.address == first.address
            for _ in range(40):  # which of them gets a connection is drawn by its port
                with apart(first.address) as stub:
                    stub.ListCollections(admin_pb2.ListCollectionsRequest(), timeout=10)
            alone = refused(str(folder), "--listen", first.address)
            assert alone.returncode == 1
            assert f"cannot listen on {first.address}" in alone.stderr
            by_second = second.stop()[1].count("ListCollections")
        with apart(first.address) as stub:
            stub.ListCollections(admin_pb2.ListCollectionsRequest(), timeout=10)
        by_first = first.stop()[1].count("ListCollections")
    assert by_second > 0
    assert by_first > 1
    assert by_first + by_second == 41


@contextmanager
def apart(address: str) -> Iterator[Any]:
    """Give a stub with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as channel:
        yield admin_pb2_grpc.AdminStub(channel)


def test_those_who_come_first_are_not_turned_away(folder: Path) -> None:
    vectors = np.eye(4, DIM, dtype=np.float32)
    with (
        Running(folder) as server,
        Client(server.address, collection="reduced") as client,
        ThreadPoolExecutor(32) as pool,
    ):
        found = list(pool.map(lambda _: client.search(vectors, 3), range(64)))
    assert [len(hits) for hits in found] == [3] * 64


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "example.org:1"])
def test_an_address_that_others_can_reach_needs_insecure(folder: Path, address: str) -> None:
    answer = CliRunner().invoke(serve, [str(folder), "--listen", address])
    assert answer.exit_code == 2
    assert "nothing is encrypted" in answer.output


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost:http", ":1", "127.0.0.1:99999"])
def test_what_is_no_address_is_wrong_usage(folder: Path, address: str) -> None:
    answer = CliRunner().invoke(serve, [str(folder), "--listen", address])
    assert answer.exit_code == 2
    assert "is no address" in answer.output


def test_addresses_of_this_machine_only_are_told_from_others() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "[::1]", "localhost")] == [
        True
    ] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "[::]", "10.0.0.1", "example.org")] == [
        False
    ] * 4
    assert split_address("unix:/run/x") == ("unix:/run/x", None)
    assert split_address("[::1]:7") == ("[::1]", 7)
    with pytest.raises(BadInput):
        split_address("7")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for folder in (tmp_path, tmp_path / "missing"):
        answer = CliRunner().invoke(serve, [str(folder), "--listen", "127.0.0.1:0"])
        assert (answer.exit_code, answer.stdout) == (1, "")
        assert str(folder) in answer.stderr


def test_a_folder_is_looked_for_before_its_port(server: Running, tmp_path: Path) -> None:
    ran = refused(str(tmp_path / "missing"), "--listen", server.address)
    assert (ran.returncode, ran.stderr) == (1, f"Error: there is no folder {tmp_path}/missing\n")


def test_an_index_whose_name_no_request_could_say_is_told_of(tmp_path: Path) -> None:
    for name in ("good", "Bad_Name"):
        fill(tmp_path / name, "fp32 | exhaustive | maxsim", documents=3)
    with Running(tmp_path) as server:
        assert [one["name"] for one in server.facts["collections"]] == ["good"]
        time.sleep(1.5)  # it has looked again meanwhile, and said nothing more
        said = server.stop()[1]
    assert said.count("'Bad_Name' is not served") == 1
    assert "such as to bad_name" in said
    with Running(tmp_path / "Bad_Name") as server:
        assert [one["name"] for one in server.facts["collections"]] == ["bad_name"]
        assert "Bad_Name is served under the name bad_name" in server.stop()[1]
    (tmp_path / "good").rename(tmp_path / "Good")
    ran = refused(str(tmp_path), "--listen", "127.0.0.1:0")
    assert ran.returncode == 1
    assert "Bad_Name would have to be renamed" in ran.stderr


def test_an_index_that_is_damaged_is_refused(folder: Path) -> None:
    answer = CliRunner().invoke(serve, [str(folder / "broken"), "--listen", "127.0.0.1:0"])
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert "segments" in answer.stderr


def test_the_client_loads_neither_torch_nor_faiss() -> None:
    program = (
        "import sys; from colreduce import Client; Client('127.0.0.1:1'); "
        "print(sorted({'torch', 'faiss', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_health_knows_the_server_and_its_services(client: Client) -> None:
    assert [client.health(name) for name in ("", *SERVICES)] == ["SERVING"] * 4
    with pytest.raises(NotFound):
        client.health("colreduce.rpc.v1.Nothing")


def reflected(address: str) -> list[str]:
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        [answer] = stub.ServerReflectionInfo(iter(asked), timeout=5)
    return [service.name for service in answer.list_services_response.service]


def test_reflection_lists_the_services_and_their_types(server: Running) -> None:
    assert set(SERVICES) < set(reflected(server.address))
    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        name = "colreduce.rpc.v1.SearchRequest"
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)]
        [answer] = stub.ServerReflectionInfo(iter(asked), timeout=5)
    assert b"SearchRequest" in answer.file_descriptor_response.file_descriptor_proto[0]


def test_an_idle_connection_hurts_nobody(server: Running, client: Client) -> None:
    host, port = server.address.rsplit(":", 1)
    silent = [socket.create_connection((host, int(port))) for _ in range(50)]
    assert len(client.search(np.eye(DIM))) == 10
    for connection in silent:
        connection.close()


@pytest.fixture
def single(tmp_path: Path) -> Path:
    fill(tmp_path / "My Index", "exact", documents=20)
    return tmp_path / "My Index"


def test_one_index_is_served_without_naming_it_and_followed_as_it_grows(single: Path) -> None:
    with Running(single, "--read-only") as running, running.client(timeout=10) as client:
        assert client.describe()["name"] == "my-index"
        with pytest.raises(grpc.RpcError) as caught:
            reflected(running.address)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        loud = 100 * np.eye(DIM, dtype=np.float32)
        with Index.open(single) as index:
            index.add(["new"], embeddings=[loud], metadata=[{"fresh": True}])
        end = time.monotonic() + 10
        while client.search(np.eye(DIM), k=1)[0].id != "new" and time.monotonic() < end:
            time.sleep(0.05)
        [hit] = client.search(np.eye(DIM), k=1)
        assert (hit.id, hit.metadata) == ("new", {"fresh": True})
        assert client.describe()["documents"] == 21
        # The index is built anew in the same place.
        single.rename(single.with_name("old"))
        fill(single, "exact", documents=3)
        end = time.monotonic() + 10
        while client.describe()["documents"] != 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(client.search(np.eye(DIM))) == 3


def test_sigterm_finishes_every_request_that_was_accepted(single: Path) -> None:
    with Running(single, "--linger", "0.3") as running:
        stop, outcomes = threading.Event(), []
        asked_to_stop: list[float] = []

        def call() -> None:
            with running.client(timeout=10) as client:
                while not stop.is_set():
                    began = time.monotonic()
                    try:
                        outcomes.append((began, len(client.search(np.eye(DIM)))))
                    except Unavailable:
                        outcomes.append((began, 0))
                        return

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        time.sleep(0.7)
        asked_to_stop.append(time.monotonic())
        code, said = running.stop()
        stop.set()
        for caller in callers:
            caller.join()
    assert code == 0
    assert "shutting down" in said
    before = [found for began, found in outcomes if began < asked_to_stop[0]]
    assert len(before) > 50
    assert set(before) == {10}


def test_a_second_signal_stops_at_once(single: Path) -> None:
    with Running(single, "--linger", "20") as running:
        running.ask_to_stop()
        time.sleep(0.5)
        assert running.process.poll() is None
        began = time.monotonic()
        running.ask_to_stop()
        assert running.stop()[0] == 0
        assert time.monotonic() - began < 5
