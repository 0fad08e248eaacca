"""Metrics for Prometheus: requests, stages, places, collections, and what the first stage misses.

Only names that a server knows become labels, so that no caller can make them grow without end.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from colreduce.errors import AlreadyExists, ColreduceError, MissingDependency
from colreduce_service.admission import Admission
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.connections import Bounded
from colreduce_service.methods import Lane

try:
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Histogram,
        ProcessCollector,
        make_wsgi_app,
    )
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingDependency(
        "metrics need prometheus-client; install it with: pip install 'colreduce[insight]'"
    ) from error

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Seconds that somebody who has connected may take to ask.
SECONDS_TO_ASK = 10.0

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


class Metrics:
    """All metrics of one server."""

    def __init__(
        self,
        lanes: Mapping[Lane, Admission],
        collections: Callable[[], Sequence[Collection]],
        health: Callable[[], Mapping[str, bool]],
    ) -> None:
        """Both are called each time that somebody reads the metrics.

        collections  returns what is served
        health       returns what health says of every service
        """
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "colreduce_requests",
            "Requests that are over, by method, collection and status.",
            ("method", "collection", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "colreduce_request_seconds",
            "Time from the request to its answer.",
            ("method",),
            buckets=SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "colreduce_stage_seconds",
            "Time that each stage of a request took.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._partial = Counter(
            "colreduce_partial",
            "Answers in which a shard of the collection is missing.",
            ("collection",),
            registry=registry,
        )
        self._agreement = Histogram(
            "colreduce_shadow_agreement",
            "Share of exact search's hits that were answered, for searches scored again exactly.",
            ("collection",),
            buckets=SHARES,
            registry=registry,
        )
        self._dropped = Counter(
            "colreduce_shadow_dropped",
            "Searches that were not scored again because too many waited.",
            registry=registry,
        )
        registry.register(_State(lanes, collections, health))
        ProcessCollector(registry=registry)

    def __call__(self, call: Call, code: str) -> None:
        """Count a request that is over."""
        method = call.method.rpartition("/")[2]
        self._requests.labels(method, call.collection, code).inc()
        self._seconds.labels(method).observe(call.total)
        if call.partial:
            self._partial.labels(call.collection).inc()
        for stage, seconds in call.seconds.items():
            self._stages.labels(stage).observe(seconds)

    def agreed(self, collection: str, share: float) -> None:
        """Count a search that was scored again exactly."""
        self._agreement.labels(collection).observe(share)

    def dropped(self) -> None:
        """Count a search that was to be scored again and was not."""
        self._dropped.inc()

    def serve(self, host: str, port: int) -> Endpoint:
        """Answer Prometheus on an address."""
        try:
            server = _Server((host.strip("[]"), port), _Handler)
        except OSError as error:
            why = error.strerror or error
            raise AlreadyExists(f"cannot listen for metrics on {host}:{port}: {why}") from error
        server.set_app(make_wsgi_app(self.registry))
        return Endpoint(server, f"{host}:{server.server_port}")


class _Server(Bounded, WSGIServer):
    """Answers those who read the metrics."""

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class _Handler(WSGIRequestHandler):
    """Answers one connection, and writes no line for it."""

    timeout = SECONDS_TO_ASK

    def log_message(self, format: str, *words: Any) -> None:
        """Say nothing."""


class Endpoint:
    """Where metrics are read."""

    def __init__(self, server: WSGIServer, listening: str) -> None:
        self._server = server
        self.listening = listening
        self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _State(Collector):
    """What is so now, looked up when it is asked for."""

    def __init__(
        self,
        lanes: Mapping[Lane, Admission],
        collections: Callable[[], Sequence[Collection]],
        health: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._lanes = lanes
        self._collections = collections
        self._health = health
        self._known: WeakKeyDictionary[object, dict[str, Any]] = WeakKeyDictionary()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield self._serving()
        yield from self._places()
        yield from self._contents()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Say nothing in advance: indexes may not be open yet."""
        return iter(())

    def _serving(self) -> GaugeMetricFamily:
        serving = GaugeMetricFamily(
            "colreduce_serving", "What health says of a service: 1 for SERVING.", labels=["service"]
        )
        for name, ready in self._health().items():
            if name and "/" not in name:  # a collection has metrics of its own
                serving.add_metric([name.rpartition(".")[2]], ready)
        return serving

    def _places(self) -> Iterator[GaugeMetricFamily]:
        inside = GaugeMetricFamily(
            "colreduce_requests_inside", "Requests that run or wait, by group.", labels=["lane"]
        )
        workers = GaugeMetricFamily(
            "colreduce_workers", "Requests that may run at once, by group.", labels=["lane"]
        )
        queue = GaugeMetricFamily(
            "colreduce_queue", "Requests that may wait now, by group.", labels=["lane"]
        )
        for name, lane in self._lanes.items():
            inside.add_metric([name], lane.in_flight)
            workers.add_metric([name], lane.workers)
            queue.add_metric([name], lane.queue)
        yield from (inside, workers, queue)

    def _contents(self) -> Iterator[GaugeMetricFamily]:
        by_name = {
            name: GaugeMetricFamily(f"colreduce_{name}", says, labels=["collection"])
            for name, says in (
                ("readable", "Whether a collection can be searched."),
                ("writable", "Whether a collection can be changed."),
                ("documents", "Documents of a collection."),
                ("segments", "Segments of a collection."),
                ("generation", "The commit that searches of a collection see."),
            )
        }
        size = GaugeMetricFamily(
            "colreduce_bytes", "Bytes of a collection on disk.", labels=["collection", "part"]
        )
        for one in self._collections():
            by_name["readable"].add_metric([one.name], one.ready)
            by_name["writable"].add_metric([one.name], one.write_problem is None)
            if not one.ready:
                continue
            try:
                about = self._described(one)
            except ColreduceError:  # it is readable in part, and nobody knows what the rest holds
                continue
            for name in ("documents", "segments", "generation"):
                by_name[name].add_metric([one.name], about[name])
            for part, count in about["bytes"].items():
                size.add_metric([one.name, part], count)
        yield from (*by_name.values(), size)

    def _described(self, one: Collection) -> dict[str, Any]:
        """Describe a collection, anew only when it has changed: that reads every length."""
        shown = one.shown
        about = self._known.get(shown)
        if about is None:
            about = self._known[shown] = one.describe()
        return about
