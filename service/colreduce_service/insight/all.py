"""Everything that looks into a server, as its settings ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from colreduce.errors import BadInput
from colreduce_service.addresses import tcp_address
from colreduce_service.admission import Admission
from colreduce_service.collection import Collection
from colreduce_service.insight.observers import Observers
from colreduce_service.insight.requests import log_request
from colreduce_service.methods import Lane
from colreduce_service.settings import Settings

if TYPE_CHECKING:
    from colreduce_service.insight.metrics import Metrics


class Insight:
    """Observers of requests, and where what they found can be read."""

    def __init__(
        self,
        settings: Settings,
        lanes: Mapping[Lane, Admission],
        collections: Callable[[], Sequence[Collection]],
        health: Callable[[], Mapping[str, bool]],
    ) -> None:
        """Take what can be looked at: places, what is served, and what health says."""
        self.observers = Observers()
        self.listening = ""
        self._closing: list[Callable[[], None]] = []
        if settings.shadow and not settings.metrics:
            raise BadInput("--shadow is told by metrics: give --metrics, too", field="shadow")
        if settings.metrics:
            from colreduce_service.insight.metrics import Metrics

            self._measure(settings, Metrics(lanes, collections, health))
        if settings.log_requests:
            self.observers.add(log_request)
        if settings.traces:
            from colreduce_service.insight.traces import Traces

            traces = Traces()
            self.observers.add(traces)
            self._closing.append(traces.close)

    def close(self) -> None:
        """Send and write what waits, and stop listening."""
        while self._closing:
            self._closing.pop()()

    def _measure(self, settings: Settings, metrics: Metrics) -> None:
        from colreduce_service.insight.shadow import Shadow

        host, port = tcp_address(settings.metrics, "metrics", settings.insecure)
        self.observers.add(metrics)
        if settings.shadow:
            shadow = Shadow(settings.shadow, metrics)
            self.observers.add(shadow)
            self._closing.append(shadow.close)
        endpoint = metrics.serve(host, port)
        self.listening = endpoint.listening
        self._closing.append(endpoint.close)
