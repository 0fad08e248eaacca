"""P16: only who may, can: every method, for every kind of server, of client and of token, exactly.

A request that is let in reaches its method and is answered there, most of them with a refusal of
what they ask, since they ask nothing; so the code of the answer tells how far a request came, and
nothing is changed by any.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from colreduce_service.access import BELIEVED_SECONDS, new_token
from colreduce_service.methods import ROLES, RULES
from colreduce_service.server import Server

from colreduce import Client
from colreduce.errors import Unauthenticated
from colreduce.rpc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    write_pb2,
    write_pb2_grpc,
)
from tests.service.certificates import Authority, Pair
from tests.service.running import fill, serving

Code = grpc.StatusCode

SERVERS = ("plain", "TLS", "mutual TLS")
CLIENTS = (
    "plain",
    "trusts another authority",
    "expects another host",
    "no certificate",
    "an expired certificate",
    "a certificate of another authority",
    "good",
)
TOKENS = ("none", "malformed", "unknown", "revoked", "read", "write", "admin")

# Which clients get a connection, by server.
CONNECTED = {
    "plain": {"plain"},
    "TLS": set(CLIENTS[3:]),
    "mutual TLS": {"good"},
}

# What each method answers to a request that asks nothing, once it is let in.
ANSWERS: dict[str, tuple[Any, Code]] = {
    "Search/Search": (search_pb2.SearchRequest(), Code.INVALID_ARGUMENT),
    "Search/BatchSearch": (search_pb2.BatchSearchRequest(), Code.INVALID_ARGUMENT),
    "Search/Get": (search_pb2.GetRequest(), Code.INVALID_ARGUMENT),
    "Search/Explain": (search_pb2.ExplainRequest(), Code.INVALID_ARGUMENT),
    "Write/Upsert": (write_pb2.UpsertRequest(), Code.INVALID_ARGUMENT),
    "Write/Delete": (write_pb2.DeleteRequest(), Code.INVALID_ARGUMENT),
    "Admin/ListCollections": (admin_pb2.ListCollectionsRequest(), Code.OK),
    "Admin/Describe": (admin_pb2.DescribeRequest(collection="none"), Code.NOT_FOUND),
    "Admin/CreateCollection": (admin_pb2.CreateCollectionRequest(), Code.INVALID_ARGUMENT),
    "Admin/Compact": (admin_pb2.CompactRequest(collection="none"), Code.NOT_FOUND),
    "Admin/Snapshot": (admin_pb2.SnapshotRequest(collection="none"), Code.NOT_FOUND),
    "Admin/DropCollection": (admin_pb2.DropCollectionRequest(), Code.INVALID_ARGUMENT),
}

# The least role of each method, written here once more, so that a slip in the server's table shows.
NEEDED = {
    **dict.fromkeys(
        ("Search/Search", "Search/BatchSearch", "Search/Get", "Search/Explain"), "read"
    ),
    **dict.fromkeys(("Admin/ListCollections", "Admin/Describe"), "read"),
    **dict.fromkeys(("Write/Upsert", "Write/Delete"), "write"),
    **dict.fromkeys(("Admin/CreateCollection", "Admin/Compact"), "admin"),
    **dict.fromkeys(("Admin/Snapshot", "Admin/DropCollection"), "admin"),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the server's file, and the secret of every kind of token."""
    made = {name: new_token(name, name) for name in ROLES}
    file = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    file.write_text("".join(f"{entry.line()}\n" for _, entry in made.values()))
    secrets = {name: secret for name, (secret, _) in made.items()}
    return file, {
        **secrets,
        "malformed": secrets["admin"][4:],
        "unknown": new_token("x", "admin")[0],
        "revoked": new_token("y", "admin")[0],
    }


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
    ours: Authority,
    tokens: tuple[Path, dict[str, str]],
) -> Iterator[dict[str, Server]]:
    """Run one server of each kind, each over an index of its own, with one token taken away."""
    file, secrets = tokens
    pair = ours.sign("server")
    tls = {"tls_cert": pair.cert, "tls_key": pair.key}
    settings = {"plain": {}, "TLS": tls, "mutual TLS": {**tls, "tls_client_ca": ours.root.cert}}
    with ExitStack() as stack:
        running = {}
        for name, chosen in settings.items():
            root = tmp_path_factory.mktemp("served")
            fill(root / "idx", "fp32 | exhaustive | maxsim", documents=3)
            server = serving(root, tokens=file, **chosen)
            running[name] = stack.enter_context(server)
        # The revoked token was good until now.
        held = file.read_text()
        file.write_text(held + _line(secrets["revoked"]))
        for name, server in running.items():
            if name == "plain":
                with Client(server.listening, token=secrets["revoked"]) as client:
                    assert client.collections()
        file.write_text(held)
        time.sleep(BELIEVED_SECONDS)
        yield running


def _line(secret: str) -> str:
    return f"y admin {hashlib.sha256(secret.encode()).hexdigest()}\n"


def channel(address: str, client: str, ours: Authority, certificates: dict[str, Pair]) -> Any:
    """Connect the way that such a client does; nothing is tried again."""
    once = [("grpc.enable_retries", 0)]
    if client == "plain":
        return grpc.insecure_channel(address, options=once)
    trusted = "theirs" if client == "trusts another authority" else "ours"
    shown = certificates.get(client)
    credentials = grpc.ssl_channel_credentials(
        certificates[trusted].cert.read_bytes(),
        shown.key.read_bytes() if shown else None,
        shown.cert.read_bytes() if shown else None,
    )
    if client == "expects another host":
        once = [*once, ("grpc.ssl_target_name_override", "elsewhere.example")]
    return grpc.secure_channel(address, credentials, options=once)


@pytest.fixture(scope="module")
def certificates(ours: Authority, theirs: Authority) -> dict[str, Pair]:
    return {
        "ours": ours.root,
        "theirs": theirs.root,
        "good": ours.sign("ada", host=""),
        "an expired certificate": ours.sign("old", host="", days=-1),
        "a certificate of another authority": theirs.sign("mallory", host=""),
    }


def methods(opened: Any) -> dict[str, Callable[..., Any]]:
    stubs = {
        "Search": search_pb2_grpc.SearchStub(opened),
        "Write": write_pb2_grpc.WriteStub(opened),
        "Admin": admin_pb2_grpc.AdminStub(opened),
    }
    return {name: getattr(stubs[name.split("/")[0]], name.split("/")[1]) for name in ANSWERS}


def code_of(call: Callable[..., Any], name: str, token: str | None) -> Code:
    request, _ = ANSWERS[name]
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    try:
        if name == "Write/Upsert":
            list(call(iter([request]), metadata=metadata, timeout=10))
        else:
            call(request, metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        return error.code()
    return Code.OK


def expected(server: str, client: str, token: str, name: str) -> Code:
    if client not in CONNECTED[server]:
        return Code.UNAVAILABLE
    if token not in ROLES:
        return Code.UNAUTHENTICATED
    if ROLES.index(token) < ROLES.index(NEEDED[name]):
        return Code.PERMISSION_DENIED
    return ANSWERS[name][1]


def test_every_method_is_in_the_matrix() -> None:
    assert {f"/colreduce.rpc.v1.{name}" for name in ANSWERS} == set(RULES)
    assert set(NEEDED) == set(ANSWERS)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_what_is_let_in_is_exactly_what_may_be(
    servers: dict[str, Server],
    tokens: tuple[Path, dict[str, str]],
    ours: Authority,
    certificates: dict[str, Pair],
    caplog: pytest.LogCaptureFixture,
    server: str,
    client: str,
) -> None:
    _, secrets = tokens
    running = servers[server]
    wrong = []
    with (
        caplog.at_level(logging.DEBUG),
        channel(running.listening, client, ours, certificates) as opened,
    ):
        calls = methods(opened)
        for token in TOKENS:
            for name, call in calls.items():
                got = code_of(call, name, secrets.get(token))
                wanted = expected(server, client, token, name)
                if got is not wanted:
                    wrong.append(f"{token} token, {name}: wanted {wanted.name}, got {got.name}")
    assert wrong == []
    index = running.indexes.get("idx").index
    assert (index.generation, len(index), len(running.indexes.all())) == (2, 3, 1)
    assert [name for name, secret in secrets.items() if secret in caplog.text] == []


def test_no_call_with_a_token_that_was_taken_away_succeeds_for_long(tmp_path: Path) -> None:
    fill(tmp_path / "idx", "fp32 | exhaustive | maxsim", documents=3)
    file = tmp_path / "tokens"
    kept, keeps = new_token("ada", "read")
    gone, goes = new_token("bob", "read")
    file.write_text(f"{keeps.line()}\n{goes.line()}\n")
    answered: dict[str, list[float]] = {kept: [], gone: []}
    refused: dict[str, int] = {kept: 0, gone: 0}
    stop = threading.Event()

    def ask(secret: str, address: str) -> None:
        with Client(address, token=secret, timeout=10) as client:
            while not stop.is_set():
                try:
                    client.collections()
                    answered[secret].append(time.monotonic())
                except Unauthenticated:
                    refused[secret] += 1

    with serving(tmp_path / "idx", tokens=file) as server:
        callers = [
            threading.Thread(target=ask, args=(one, server.listening)) for one in (kept, gone) * 2
        ]
        for caller in callers:
            caller.start()
        time.sleep(0.5)
        file.write_text(f"{keeps.line()}\n")
        taken = time.monotonic()
        time.sleep(1.0)
        stop.set()
        for caller in callers:
            caller.join()
    assert len(answered[gone]) > 10
    assert max(answered[gone]) < taken + 0.5
    assert refused[gone] > 10
    assert refused[kept] == 0
    assert max(answered[kept]) > taken + 0.5
