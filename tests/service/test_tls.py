"""Connections are encrypted, both ends can be asked who they are, and certificates can change."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from colreduce_service.command import serve
from colreduce_service.health_command import health

from colreduce import Client
from colreduce.errors import BadInput, Unavailable
from colreduce.rpc.channel import Way
from tests.service.certificates import Authority, Pair
from tests.service.running import DIM, Running, fill, serving

EYE = np.eye(DIM, dtype=np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "idx"
    fill(path, "fp32 | exhaustive | maxsim", documents=5)
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture(scope="module")
def server(ours: Authority) -> Pair:
    return ours.sign("server")


def answers(address: str, **how: object) -> bool:
    """Say whether a client that connects this way gets an answer, and no other than our errors."""
    with Client(address, **how) as client:  # type: ignore[arg-type]
        try:
            return len(client.search(EYE[:1], k=1, timeout=5)) == 1
        except Unavailable:
            return False


def test_a_client_that_trusts_the_authority_is_answered_and_no_other(
    index: Path, ours: Authority, theirs: Authority, server: Pair
) -> None:
    other = ours.sign("other", host="elsewhere.example")
    with serving(index, tls_cert=server.cert, tls_key=server.key) as running:
        address = running.listening
        assert answers(address, ca=ours.root.cert)
        assert answers(address, ca=ours.root.cert, server_name="localhost")
        assert not answers(address, ca=theirs.root.cert)
        assert not answers(address, ca=ours.root.cert, server_name="elsewhere.example")
        assert not answers(address)
        assert not answers(address, tls=True)
        ran = CliRunner().invoke(health, [address, "--ca", str(ours.root.cert)])
        assert (ran.exit_code, ran.stdout) == (0, "SERVING\n")
    with serving(index, tls_cert=other.cert, tls_key=other.key) as running:
        named = {"ca": ours.root.cert, "server_name": "elsewhere.example"}
        assert answers(running.listening, **named)
        assert not answers(running.listening, **{**named, "server_name": "localhost"})


def test_a_server_may_ask_clients_for_their_certificates(
    index: Path, ours: Authority, theirs: Authority, server: Pair, tmp_path: Path
) -> None:
    settings = {
        "tls_cert": server.cert,
        "tls_key": server.key,
        "tls_client_ca": ours.root.cert,
    }
    ada, mallory = ours.sign("ada", host=""), theirs.sign("mallory", host="")
    expired = ours.sign("expired", host="", days=-1)
    trusting = {"ca": ours.root.cert}
    with serving(index, **settings) as running:
        address = running.listening
        assert answers(address, **trusting, certificate=ada.cert, key=ada.key)
        assert not answers(address, **trusting)
        assert not answers(address, **trusting, certificate=mallory.cert, key=mallory.key)
        assert not answers(address, **trusting, certificate=expired.cert, key=expired.key)


def test_a_certificate_that_changes_holds_for_new_connections_and_a_broken_one_changes_nothing(
    index: Path, ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    files = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")

    def put(pair: Pair) -> None:
        for target, source in ((files.cert, pair.cert), (files.key, pair.key)):
            fresh = target.with_suffix(".new")
            fresh.write_bytes(source.read_bytes())
            os.replace(fresh, target)

    put(ours.sign("first"))
    with serving(index, tls_cert=files.cert, tls_key=files.key) as running:
        address = running.listening
        with Client(address, ca=ours.root.cert, timeout=10) as old:
            assert old.search(EYE[:1], k=1)
            put(theirs.sign("second"))
            assert answers(address, ca=theirs.root.cert)
            assert not answers(address, ca=ours.root.cert)
            assert old.search(EYE[:1], k=1)  # connections that are open go on
        files.cert.write_text("-----BEGIN CERTIFICATE-----\nhalf")
        assert answers(address, ca=theirs.root.cert)
        put(replace(ours.sign("third"), key=ours.sign("fourth").key))
        assert answers(address, ca=theirs.root.cert)
        put(ours.sign("fifth"))
        assert answers(address, ca=ours.root.cert)


def test_versions_of_tls_before_1_2_are_refused(index: Path, ours: Authority, server: Pair) -> None:
    with serving(index, tls_cert=server.cert, tls_key=server.key) as running:
        host, port = running.listening.rsplit(":", 1)

        def spoken(most: ssl.TLSVersion) -> str | None:
            context = ssl.create_default_context(cafile=str(ours.root.cert))
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = most
            context.set_alpn_protocols(["h2"])
            with (
                socket.create_connection((host, int(port)), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                return connection.version()

        assert spoken(ssl.TLSVersion.MAXIMUM_SUPPORTED) == "TLSv1.3"
        assert spoken(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        with (
            pytest.warns(DeprecationWarning, match="TLSv1_1"),
            pytest.raises((ssl.SSLError, OSError)),
        ):
            spoken(ssl.TLSVersion.TLSv1_1)


def test_an_address_that_others_can_reach_is_served_with_tls(
    index: Path, ours: Authority, server: Pair
) -> None:
    options = ("--tls-cert", str(server.cert), "--tls-key", str(server.key))
    with Running(index, "--listen=0.0.0.0:0", *options) as running:
        port = running.address.rsplit(":", 1)[1]
        assert answers(f"127.0.0.1:{port}", ca=ours.root.cert)


@pytest.mark.parametrize("without", ["cert", "key", "both"])
def test_half_of_the_files_is_wrong_usage(
    index: Path, ours: Authority, server: Pair, without: str
) -> None:
    options = {"--tls-cert": server.cert, "--tls-key": server.key, "--tls-client-ca": server.cert}
    kept = [name for name in options if name != f"--tls-{without}"]
    if without == "both":
        kept = ["--tls-client-ca"]
    typed = [word for name in kept for word in (name, str(options[name]))]
    ran = CliRunner().invoke(serve, [str(index), "--listen", "127.0.0.1:0", *typed])
    assert ran.exit_code == 2
    assert "both --tls-cert and --tls-key" in ran.output


def test_files_that_cannot_be_used_are_said_at_once(
    index: Path, ours: Authority, server: Pair, tmp_path: Path
) -> None:
    (tmp_path / "empty.crt").touch()
    none, empty = tmp_path / "none.crt", tmp_path / "empty.crt"
    for cert, key, authority, named in (
        (none, server.key, ours.root.cert, none),
        (empty, server.key, ours.root.cert, empty),
        (server.cert, ours.sign("unlike").key, ours.root.cert, server.cert),
        (server.cert, server.key, empty, empty),
    ):
        typed = ["--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key)]
        typed += ["--tls-client-ca", str(authority)]
        ran = CliRunner().invoke(serve, [str(index), *typed])
        assert ran.exit_code == 2
        assert "TLS files cannot be used" in ran.output
        assert str(named) in ran.output


def test_a_token_is_not_sent_where_others_can_read_it() -> None:
    for address in ("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/x", "dns:///localhost:1"):
        assert Way(address, token="crt_x").headers
    for address in ("10.0.0.1:1", "example.org:443", "dns:///example.org:1"):
        with pytest.raises(BadInput, match="insecure=True"):
            Way(address, token="crt_x")
        assert Way(address, token="crt_x", insecure=True).headers
        assert Way(address, token="crt_x", tls=True).encrypted
    with pytest.raises(BadInput, match="needs its key"):
        Way("example.org:1", certificate="x.crt")
    with pytest.raises(BadInput, match="cannot be read"):
        Client("example.org:1", ca="/nowhere/ca.crt")


def test_a_caller_that_never_finishes_its_handshake_holds_up_nobody(
    index: Path, ours: Authority, server: Pair
) -> None:
    with serving(index, tls_cert=server.cert, tls_key=server.key) as running:
        host, port = running.listening.rsplit(":", 1)
        silent = [socket.create_connection((host, int(port))) for _ in range(50)]
        assert answers(running.listening, ca=ours.root.cert)
        for connection in silent:
            connection.close()
