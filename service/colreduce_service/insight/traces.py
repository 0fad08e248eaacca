"""Requests as traces of OpenTelemetry: a span for each, and one inside for each stage.

Where they go is said by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

from __future__ import annotations

import time

from colreduce.errors import MissingDependency
from colreduce_service.call import Call

try:
    from opentelemetry import propagate
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
except ImportError as error:
    raise MissingDependency(
        "traces need OpenTelemetry; install it with: pip install 'colreduce[insight]'"
    ) from error

SERVICE = "colreduce"


class Traces:
    """Sends a trace of every request; one that arrives within a caller's trace joins it."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """``exporter`` takes the place of OTLP over gRPC."""
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SERVICE)

    def __call__(self, call: Call, code: str) -> None:
        """Make the spans of a request that is over."""
        service, _, method = call.method.lstrip("/").rpartition("/")
        end = time.time_ns()
        start = end - int(call.total * 1e9)
        headers = {str(key): str(value) for key, value in call.context.invocation_metadata()}
        span = self._tracer.start_span(
            f"{service}/{method}",
            context=propagate.extract(headers),
            kind=SpanKind.SERVER,
            start_time=start,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "rpc.grpc.status": code,
                "colreduce.collection": call.collection,
                "colreduce.request": call.id,
            },
        )
        inside = set_span_in_context(span)
        for name, seconds in call.seconds.items():
            # Only how long each stage took is known; they come one after the other.
            stage = self._tracer.start_span(name, context=inside, start_time=start)
            start += int(seconds * 1e9)
            stage.end(start)
        span.set_status(Status(StatusCode.OK if code == "OK" else StatusCode.ERROR))
        span.end(end)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()
