"""Who is let in: tokens from a file of hashes that may change, and how much each caller may ask."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from colreduce_service.access import BELIEVED_SECONDS, TokenFile, new_token, read_entries
from colreduce_service.command import token
from colreduce_service.methods import RULES
from colreduce_service.rates import BURST_SECONDS, Rates

from colreduce.errors import AccessDenied, BadInput, RateLimited, Unauthenticated
from colreduce.rpc.v1 import admin_pb2, admin_pb2_grpc, search_pb2, write_pb2
from tests.service.running import Running, fill, until

QUERY = [[1.0] + [0.0] * 15]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("access") / "idx"
    fill(path, "int8 | exhaustive | maxsim", documents=20)
    return path


def test_only_a_token_of_the_file_lets_in_and_a_change_of_the_file_counts_at_once(
    index: Path, tmp_path: Path
) -> None:
    secret, entry = new_token("ada", "read")
    file = tmp_path / "tokens.txt"
    file.write_text(f"# who may ask\n{entry.line()}\n")
    with Running(index, "--tokens", str(file)) as server:
        with server.client(token=secret) as known:
            assert len(known.search(QUERY, k=3)) == 3
            assert [one.name for one in known.collections()] == ["idx"]
        for wrong in ("", secret[:-1], secret.upper(), "crt_" + "x" * 43):
            with server.client(token=wrong) as other, pytest.raises(Unauthenticated):
                other.search(QUERY)
        with server.client() as nobody, pytest.raises(Unauthenticated, match="wants a token"):
            nobody.search(QUERY)
        with server.client() as nobody:
            assert nobody.health() == "SERVING"
        file.write_text("")
        time.sleep(BELIEVED_SECONDS)
        with server.client(token=secret) as known, pytest.raises(Unauthenticated):
            known.search(QUERY)
        file.write_text(entry.line())
        with server.client(token=secret) as known:
            assert known.search(QUERY, k=1)
        file.unlink()
        time.sleep(BELIEVED_SECONDS)
        with server.client(token=secret) as known, pytest.raises(Unauthenticated):
            known.search(QUERY)
        _, said = server.stop()
    assert secret not in said
    assert "nobody is let in" in said


def test_a_header_that_is_no_bearer_token_is_refused(index: Path, tmp_path: Path) -> None:
    secret, entry = new_token("ada", "read")
    (tmp_path / "tokens").write_text(entry.line())
    with (
        Running(index, "--tokens", str(tmp_path / "tokens")) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = admin_pb2_grpc.AdminStub(channel)
        request = admin_pb2.ListCollectionsRequest()
        for header in (secret, f"Basic {secret}", "Bearer", "Bearer "):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ListCollections(request, metadata=[("authorization", header)], timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert stub.ListCollections(request, metadata=[("authorization", f"bearer {secret}")])


def test_a_request_carries_the_name_that_its_caller_gave_it(index: Path) -> None:
    with Running(index) as server, grpc.insecure_channel(server.address) as channel:
        call: Any = admin_pb2_grpc.AdminStub(channel).ListCollections
        request = admin_pb2.ListCollectionsRequest()

        def name(given: str) -> str:
            _, done = call.with_call(request, metadata=[("x-request-id", given)], timeout=5)
            return dict(done.trailing_metadata())["x-request-id"]

        assert name("my-request.7") == "my-request.7"
        assert name("no good: spaces") not in ("", "no good: spaces")


def test_who_has_asked_too_much_waits_and_others_do_not(index: Path) -> None:
    with Running(index, "--rate", "30") as server, server.client(timeout=10) as client:
        # Eight vectors times 20 documents: more than five seconds' worth.
        client.search(QUERY * 8)
        with pytest.raises(RateLimited, match="try again in"):
            client.search(QUERY * 8)


def test_a_bucket_fills_again_with_time() -> None:
    rates = Rates(1000.0)
    rates.check("ada")
    rates.charge("ada", 1000 * BURST_SECONDS + 20)
    with pytest.raises(RateLimited) as caught:
        rates.check("ada")
    rates.check("bob")
    assert 0 < caught.value.retry_after < 0.1
    time.sleep(0.05)
    rates.check("ada")


def test_every_method_has_a_rule_and_no_rule_is_without_its_method() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in (search_pb2.DESCRIPTOR, write_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert set(RULES) == methods


def test_a_role_may_do_what_those_before_it_may() -> None:
    roles = ("read", "write", "admin")
    for held in roles:
        principal = new_token("x", held)[1].principal
        assert [principal.may(wanted) for wanted in roles] == [
            roles.index(wanted) <= roles.index(held) for wanted in roles
        ]
    assert issubclass(Unauthenticated, AccessDenied)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("ada read", "got 2 words"),
        ("ada reed " + "0" * 64, "Did you mean 'read'"),
        ("ada read " + "0" * 63, "64 hexadecimal digits"),
        ("a/da read " + "0" * 64, "a name is"),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, wrong: str) -> None:
    with pytest.raises(BadInput, match=f"tokens, line 2: .*{wrong}"):
        read_entries(f"# comment\n{line}\n", "tokens")


def test_the_command_makes_a_token_that_its_line_lets_in(tmp_path: Path) -> None:
    ran = CliRunner().invoke(token, ["ada", "write"])
    assert ran.exit_code == 0
    secret, line = ran.stdout.split("\n")[:2]
    (tmp_path / "tokens").write_text(line)
    found = TokenFile(tmp_path / "tokens").find(secret)
    assert found is not None
    assert (found.name, found.role) == ("ada", "write")
    assert secret not in line


def test_a_name_that_is_none_is_wrong_usage() -> None:
    ran = CliRunner().invoke(token, ["a b", "read"])
    assert ran.exit_code == 2
    assert "'a b': a name is 1 to 64 letters" in ran.output


def test_a_file_that_is_being_written_takes_nobody_away_until_it_stands_still(
    tmp_path: Path,
) -> None:
    kept, keeps = new_token("ada", "read")
    gone, goes = new_token("bob", "read")
    file = tmp_path / "tokens"
    file.write_text(f"{keeps.line()}\n{goes.line()}\n")
    time.sleep(BELIEVED_SECONDS)
    tokens = TokenFile(file)
    file.unlink()
    assert tokens.find(kept)
    with file.open("w") as written:
        began = time.monotonic()
        while time.monotonic() < began + 0.5:  # whoever writes it was held up
            found = tokens.find(kept)
            assert found or time.monotonic() > began + BELIEVED_SECONDS
        for character in f"# without bob\n{keeps.line()}\n":
            written.write(character)
            written.flush()
            found = tokens.find(kept)
            assert found or time.monotonic() > began + BELIEVED_SECONDS
    until(lambda: tokens.find(gone) is None, seconds=2 * BELIEVED_SECONDS)
    assert tokens.find(kept)
    new, newly = new_token("eve", "write")
    file.write_text(newly.line())
    assert tokens.find(new)


def test_a_file_that_nobody_looked_at_since_it_changed_is_believed_at_once(tmp_path: Path) -> None:
    secret, entry = new_token("ada", "read")
    file = tmp_path / "tokens"
    file.write_text(entry.line())
    tokens = TokenFile(file)
    assert tokens.find(secret)
    file.write_text("")
    time.sleep(BELIEVED_SECONDS)
    assert tokens.find(secret) is None
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(file, folder / "tokens")
    (folder / "tokens").write_text(entry.line())
    tokens = TokenFile(folder / "tokens")
    shutil.rmtree(folder)
    assert tokens.find(secret) is None


def test_a_role_that_was_lowered_counts_at_once(tmp_path: Path) -> None:
    secret, entry = new_token("ada", "admin")
    file = tmp_path / "tokens"
    file.write_text(entry.line())
    tokens = TokenFile(file)
    file.write_text(entry.line().replace("admin", "read"))
    found = tokens.find(secret)
    assert found is not None
    assert found.role == "read"


def test_a_file_that_never_stands_still_is_believed_all_the_same(tmp_path: Path) -> None:
    secret, entry = new_token("ada", "read")
    file = tmp_path / "tokens"
    file.write_text(entry.line())
    tokens = TokenFile(file)
    assert tokens.find(secret)
    file.write_text("")

    def refused() -> bool:
        os.utime(file)
        return tokens.find(secret) is None

    until(refused, seconds=4 * BELIEVED_SECONDS)
