"""Every error of ours crosses the wire and arrives as itself; nothing else gets across."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from colreduce_service.admission import Admission
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from colreduce import Client, errors
from colreduce.errors import BadInput, ColreduceError, ServiceError
from colreduce.rpc.status import STATUSES, status_of
from colreduce.rpc.v1 import search_pb2, search_pb2_grpc
from tests.service.running import guarding


class Raising(search_pb2_grpc.SearchServicer):
    """Raises whatever it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def Search(self, request: Any, context: Any) -> Any:
        raise self.error


@contextmanager
def raising(error: Exception) -> Iterator[str]:
    admission = Admission(1, 1)
    admission.open()
    guard = guarding(admission)
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[guard])
    search_pb2_grpc.add_SearchServicer_to_server(Raising(error), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
        guard.close()


def failed(address: str) -> grpc.RpcError:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        search_pb2_grpc.SearchStub(channel).Search(search_pb2.SearchRequest(), timeout=5)
    return caught.value


def details(call: grpc.RpcError, kind: Any) -> list[Any]:
    found = []
    for box in rpc_status.from_call(call).details:
        detail = kind()
        if box.Unpack(detail):
            found.append(detail)
    return found


def every_error() -> list[type[ColreduceError]]:
    found = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ColreduceError)
    }
    return sorted(found, key=lambda kind: kind.__name__)


def test_every_error_has_a_status_and_no_two_share_a_reason() -> None:
    assert set(every_error()) == set(STATUSES)
    assert len({reason for _, reason in STATUSES.values()}) == len(STATUSES)


@pytest.mark.parametrize("kind", every_error())
def test_an_error_arrives_as_the_same_error_with_the_same_words(
    kind: type[ColreduceError],
) -> None:
    given = kind("what went wrong")
    with raising(given) as address:
        with Client(address) as client, pytest.raises(ColreduceError) as caught:
            client.search([[1.0, 2.0]])
        assert type(caught.value) is kind
        assert str(caught.value) == "what went wrong"
        call = failed(address)
    code, reason = STATUSES[kind]
    assert call.code() is code
    [info] = details(call, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("colreduce", reason)


def test_bad_input_names_its_field_on_both_sides() -> None:
    with raising(BadInput("not like this", field="query.vectors.dim")) as address:
        with Client(address) as client, pytest.raises(BadInput) as caught:
            client.search([[1.0, 2.0]])
        [bad] = details(failed(address), error_details_pb2.BadRequest)
    assert caught.value.field == "query.vectors.dim"
    [violation] = bad.field_violations
    assert (violation.field, violation.description) == ("query.vectors.dim", "not like this")


def test_an_overloaded_server_says_when_to_try_again() -> None:
    with raising(errors.Overloaded("full")) as address:
        [retry] = details(failed(address), error_details_pb2.RetryInfo)
    assert 0 < retry.retry_delay.ToMilliseconds() <= 1000


def test_the_text_of_an_unexpected_error_stays_in_the_servers_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = ValueError("secret internal detail in /srv/keys")
    with caplog.at_level(logging.ERROR), raising(secret) as address:
        call = failed(address)
    assert call.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(call.details())
    assert all(b"secret" not in bytes(str(value), "utf8") for _, value in call.trailing_metadata())
    [info] = details(call, error_details_pb2.ErrorInfo)
    assert info.metadata["incident"] in call.details()
    [record] = [record for record in caplog.records if "incident" in record.getMessage()]
    assert info.metadata["incident"] in record.getMessage()
    assert "secret internal detail" in caplog.text


def test_an_unexpected_error_reaches_the_client_as_a_service_error() -> None:
    with raising(KeyError("x")) as address, Client(address) as client:
        with pytest.raises(ServiceError, match="incident") as caught:
            client.search([[1.0]])
        assert type(caught.value) is ServiceError


def test_bytes_that_are_no_message_are_the_callers_mistake() -> None:
    with raising(ValueError("not reached")) as address, grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/colreduce.rpc.v1.Search/Search")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff garbage", timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_long_message_is_cut_so_that_it_fits_into_a_header() -> None:
    status = status_of(BadInput("x" * 100_000, field="k"))
    assert len(status.message) == 1000
    assert status.ByteSize() < 4000


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(errors.Unavailable, match="failed with UNAVAIL"),
    ):
        client.search([[1.0]])
