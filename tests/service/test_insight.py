"""Metrics, shadow recall, the log of requests and traces of a real server."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from colreduce_service.connections import MOST
from colreduce_service.insight.traces import Traces
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from colreduce import Client
from colreduce.errors import AlreadyExists, BadInput, ColreduceError, NotFound
from colreduce.rpc.v1 import write_pb2, write_pb2_grpc
from tests.service.running import (
    Running,
    fill,
    idle_connections,
    scraped,
    serving,
    unit_vectors,
    until,
)

LOSSY = "window(size=1) | int8 | mean | maxsim(candidates=1)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    fill(folder / "exact", "fp32 | exhaustive | maxsim")
    fill(folder / "lossy", LOSSY)
    return folder


@pytest.fixture
def client(root: Path) -> Iterator[tuple[Client, str]]:
    with (
        serving(root, metrics="127.0.0.1:0", shadow=1) as server,
        Client(server.listening) as asking,
    ):
        yield asking, server.metrics


def query(seed: int = 0) -> np.ndarray:
    return unit_vectors(np.random.default_rng(seed), 4)


def test_requests_are_counted_by_method_collection_and_status(client: tuple[Client, str]) -> None:
    asking, address = client
    for _ in range(3):
        asking.search(query(), k=5, collection="exact")
    with pytest.raises(NotFound):
        asking.search(query(), k=5, collection="nowhere")
    found = scraped(address)
    assert found["colreduce_requests_total", "OK", "exact", "Search"] == 3
    assert found["colreduce_requests_total", "NOT_FOUND", "", "Search"] == 1
    assert found["colreduce_request_seconds_count", "Search"] == 4
    assert found["colreduce_stage_seconds_count", "rerank"] == 3
    assert found["colreduce_requests_inside", "search"] == 0
    assert found["colreduce_workers", "search"] >= 1


def test_a_caller_that_goes_away_is_counted_as_that(client: tuple[Client, str]) -> None:
    asking, address = client
    gone = threading.Event()

    def unfinished() -> Iterator[write_pb2.UpsertRequest]:
        yield write_pb2.UpsertRequest(
            collection="exact", documents=[write_pb2.NewDocument(id="nothing in it")]
        )
        gone.wait(10)

    def counted(code: str) -> float:
        return scraped(address).get(("colreduce_requests_total", code, "exact", "Upsert"), 0)

    # gRPC tells some of those who went away as the end of their stream.
    with grpc.insecure_channel(asking.address) as channel:
        for _ in range(5):
            call = write_pb2_grpc.WriteStub(channel).Upsert(unfinished())
            assert next(call).items[0].code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            call.cancel()
        until(lambda: counted("CANCELLED") + counted("OK") == 5)
        assert counted("CANCELLED") > 0
        gone.set()


def test_what_a_caller_makes_up_never_becomes_a_label(client: tuple[Client, str]) -> None:
    asking, address = client
    for number in range(20):
        with pytest.raises(ColreduceError):
            asking.search(query(), collection=f"made-up-{number}")
    labels = {label for sample in scraped(address) for label in sample[1:]}
    assert not [label for label in labels if "made-up" in label]


def test_what_collections_hold_is_told_as_it_is_now(client: tuple[Client, str]) -> None:
    asking, address = client
    before = scraped(address)
    assert before["colreduce_documents", "exact"] == 60
    assert before["colreduce_readable", "exact"] == before["colreduce_writable", "exact"] == 1
    assert before["colreduce_bytes", "exact", "total"] > 0
    asking.delete(["doc-0"], collection="exact")
    after = scraped(address)
    assert after["colreduce_documents", "exact"] == 59
    assert after["colreduce_generation", "exact"] > before["colreduce_generation", "exact"]


def test_a_collection_that_takes_the_name_of_a_dropped_one_is_told_as_itself(
    tmp_path: Path,
) -> None:
    with (
        serving(tmp_path, metrics="127.0.0.1:0") as server,
        Client(server.listening) as asking,
    ):
        for documents in (3, 2):
            asking.create("papers", "int8", dim=4)
            asking.add(list("abc")[:documents], embeddings=[np.eye(4)] * documents)
            assert scraped(server.metrics)["colreduce_documents", "papers"] == documents
            asking.drop("papers")


def test_searches_are_scored_again_and_the_loss_is_seen(root: Path) -> None:
    with serving(root, metrics="127.0.0.1:0", shadow=2) as server:
        with Client(server.listening) as asking:
            for seed in range(40):
                asking.search(query(seed), k=5, collection="lossy", candidates=5)
                asking.search(query(seed), k=5, collection="exact")
        server._insight._closing[0]()  # finish what waits
        found = scraped(server.metrics)
        server._insight._closing.pop(0)
    told = {
        name: (
            found.get(("colreduce_shadow_agreement_sum", name), 0.0),
            found.get(("colreduce_shadow_agreement_count", name), 0.0),
        )
        for name in ("lossy", "exact")
    }
    dropped = found["colreduce_shadow_dropped_total",]
    assert sum(count for _, count in told.values()) + dropped == 40
    for name, (total, count) in told.items():
        if count:
            assert (total / count == 1.0) == (name == "exact")


def test_requests_are_logged_as_json_without_what_was_asked(root: Path) -> None:
    with Running(root, "--log-requests", "--log-json", "--console", "127.0.0.1:0") as server:
        with server.client() as asking:
            asking.search(query(), k=2, collection="exact")
        _, said = server.stop()
    lines = [json.loads(line) for line in said.splitlines()]
    [line] = [one for one in lines if one["logger"] == "colreduce_service.requests"]
    assert re.fullmatch("[0-9a-f]{16}", line["request"])
    assert (line["method"], line["collection"], line["code"]) == ("Search/Search", "exact", "OK")
    assert line["stages"]["rerank"] > 0
    assert line["principal"] != ""
    told = " ".join(one["message"] for one in lines)
    for word in ("serving 2 collections", "console: http://", "shutting down"):
        assert word in told


def test_requests_are_logged_for_people_with_the_time_of_every_stage(root: Path) -> None:
    with Running(root, "--log-requests") as server:
        with server.client() as asking:
            asking.search(query(), k=2, collection="exact")
        _, said = server.stop()
    stages = r"\(read \d+\.\d, wait \d+\.\d, .*rerank \d+\.\d\)"
    assert re.search(rf"Search/Search of exact OK in \d+\.\d ms {stages}, request", said)


def test_a_trace_joins_that_of_its_caller(root: Path) -> None:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter)
    with serving(root) as server:
        server._insight.observers.add(traces)
        with Client(server.listening) as asking:
            asking.search(query(), k=2, collection="exact")
            with pytest.raises(ColreduceError):
                asking.search(query(), collection="nowhere")
    traces.close()
    spans: list[ReadableSpan] = list(exporter.get_finished_spans())
    whole = [one for one in spans if one.parent is None]
    assert [one.name for one in whole] == ["colreduce.rpc.v1.Search/Search"] * 2
    first = [one for one in spans if one.parent and one.parent.span_id == whole[0].context.span_id]
    assert {"read", "wait", "rerank"} <= {one.name for one in first}
    assert all(one.start_time >= (whole[0].start_time or 0) for one in first if one.start_time)
    assert [one.status.is_ok for one in whole] == [True, False]
    assert whole[1].attributes is not None
    assert whole[1].attributes["rpc.grpc.status"] == "NOT_FOUND"


def test_an_observer_that_fails_stops_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(call: object, code: str) -> None:
        raise RuntimeError("broken")

    with serving(root) as server, Client(server.listening) as asking:
        server._insight.observers.add(broken)
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                assert len(asking.search(query(), k=2, collection="exact")) == 2
    assert len([one for one in caplog.records if "could not be observed" in one.message]) == 1


def test_metrics_are_for_this_machine_unless_told(root: Path) -> None:
    with pytest.raises(BadInput, match="--insecure"), serving(root, metrics="0.0.0.0:0"):
        pass
    with pytest.raises(BadInput, match="--metrics"), serving(root, shadow=10):
        pass
    with serving(root, metrics="127.0.0.1:0") as server:
        taken = server.metrics
        with pytest.raises(AlreadyExists, match="metrics"), serving(root, metrics=taken):
            pass


def test_readers_of_metrics_have_an_end_and_their_places_come_back(root: Path) -> None:
    with serving(root, metrics="127.0.0.1:0") as server:

        def refused() -> bool:
            try:
                scraped(server.metrics)
            except OSError as problem:
                return re.search("503|reset|closed|[Bb]roken", str(problem)) is not None
            return False

        with idle_connections(server.metrics, MOST):
            until(refused)
        until(lambda: not refused())
        assert scraped(server.metrics)["colreduce_documents", "lossy"] == 60
