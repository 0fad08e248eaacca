"""Health: whether the server answers, reads and writes, as `grpc.health.v1` asks for it.

Every watcher has a thread of its own. gRPC's own servicer tells all watchers one after the other
while it holds a lock, so one of them that takes nothing would silence health for everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

SERVING: Any = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Any = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN: Any = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

# Watchers at once. One more is told that nobody can watch, which clients take for healthy.
MOST_WATCHERS = 512

# Seconds between two looks at whether a watcher has gone; news reaches it at once.
LOOK_SECONDS = 1.0


class Health:
    """What every service is now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._states: dict[str, Any] = {}
        self._watchers = 0
        self._ended = self._closed = False
        self._pool = ThreadPoolExecutor(MOST_WATCHERS + 1, thread_name_prefix="health")

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server is given to answer for health."""
        watch = _InPool(self._watch, self._pool)
        request: Any = health_pb2.HealthCheckRequest.FromString
        answer: Any = health_pb2.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, request, answer),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, request, answer),
        }
        return grpc.method_handlers_generic_handler(NAME, methods)

    def state(self) -> dict[str, bool]:
        """Return which services are ready."""
        with self._changed:
            return {name: state == SERVING for name, state in self._states.items()}

    def say(self, ready: Mapping[str, bool]) -> None:
        """Set what every service is from now on; one that is not named is unknown."""
        states = {name: SERVING if one else NOT_SERVING for name, one in ready.items()}
        with self._changed:
            if states != self._states and not self._ended:
                self._states = states
                self._changed.notify_all()

    def say_goodbye(self) -> None:
        """Say of everything, for good, that it is not ready."""
        with self._changed:
            self._states = dict.fromkeys(self._states, NOT_SERVING)
            self._ended = True
            self._changed.notify_all()

    def let_go(self) -> None:
        """End what watchers wait for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads, when gRPC has stopped: it does not bear a pool that takes no more."""
        self.let_go()
        self._pool.shutdown(wait=False)

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._changed:
            state = self._states.get(request.service)
        if state is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return health_pb2.HealthCheckResponse(status=state)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._changed:
            if self._watchers >= MOST_WATCHERS:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "too many watch already")
            self._watchers += 1
        try:
            context.add_callback(self._look_again)
            told = None
            while (state := self._news(request.service, told, context)) is not None:
                told = state
                yield health_pb2.HealthCheckResponse(status=state)
        finally:
            with self._changed:
                self._watchers -= 1

    def _news(self, service: str, told: Any, context: grpc.ServicerContext) -> Any:
        """Wait until a state is not the one that was told; None when nobody is to be told more."""
        with self._changed:
            while context.is_active() and not self._closed:
                state = self._states.get(service, UNKNOWN)
                if state != told:
                    return state
                self._changed.wait(LOOK_SECONDS)
        return None

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _InPool:
    """A method that gRPC runs in a pool of its own; it looks for an attribute of this name."""

    def __init__(self, method: Any, pool: ThreadPoolExecutor) -> None:
        self._method = method
        self.experimental_thread_pool = pool

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._method(request, context)
