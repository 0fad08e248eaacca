"""Reading messages within bounds of memory and time, so that slow callers hurt nobody.

Python's gRPC reads a message in a thread that waits until the last byte is there. A caller that
sends one byte a second would hold that thread for ever, and many large messages at once would fill
the memory. Here a place is taken for each message before it is read, a caller that is too slow
loses its place as soon as somebody else wants it, and none keeps it for long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from colreduce.errors import BadInput, Cancelled, Overloaded
from colreduce.rpc import limits
from colreduce_service.deadline import Deadline

# Bytes of messages that are being read or worked on. A message counts twice while it is read: in
# gRPC's buffers and as the bytes that Python is handed.
MEMORY = 384 << 20
READING = 2 * limits.MESSAGE_BYTES

# Requests that may wait for a place to read; more are turned away.
MOST_WAITING = 64

# Seconds that a message may take to arrive, and after which it makes room if others wait.
ARRIVAL_SECONDS = 10.0
SLOW_SECONDS = 0.25

# Seconds that a stream may say nothing, or not take what it is sent.
IDLE_SECONDS = 60.0

SWEEP_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class _Held:
    """Something that waits for a caller, and until when."""

    context: grpc.ServicerContext
    until: float
    idle: bool  # nothing is lost when it ends
    since: float = field(default_factory=time.monotonic)


class Patience:
    """Cancels requests that keep the server waiting for too long."""

    def __init__(self) -> None:
        self._waiting: set[_Held] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="patience", daemon=True)
        self._thread.start()

    @contextmanager
    def within(
        self, context: grpc.ServicerContext, seconds: float, *, idle: bool = False
    ) -> Iterator[_Held]:
        """Cancel the request if the block has not ended by then.

        One that is ``idle`` is cancelled when the server stops, too: nothing is lost by it.
        """
        held = _Held(context, time.monotonic() + seconds, idle)
        with self._guard:
            self._waiting.add(held)
        try:
            yield held
        finally:
            with self._guard:
                self._waiting.discard(held)

    def close(self) -> None:
        """Cancel what is idle, and end the thread."""
        self._stop.set()
        self._thread.join()
        self._cancel(lambda held: held.idle)

    def _sweep(self) -> None:
        while not self._stop.wait(SWEEP_SECONDS):
            self._cancel(lambda held: held.until < time.monotonic())

    def _cancel(self, chosen: Callable[[_Held], bool]) -> None:
        with self._guard:
            gone = [held for held in self._waiting if chosen(held)]
            self._waiting.difference_update(gone)
        for held in gone:
            held.context.cancel()


class Streams:
    """Places for requests that go on for long."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place, or say that there is none."""
        if not self._free.acquire(blocking=False):
            raise Overloaded(f"{self.most} streams are open, which is as many as this server takes")
        try:
            yield
        finally:
            self._free.release()


class Intake:
    """Reads the one message of a request, when there is memory for it."""

    def __init__(self, patience: Patience, memory: int = MEMORY) -> None:
        self._patience = patience
        self._changed = threading.Condition()
        self._free = memory
        self._waiting = 0
        self._reading: set[_Held] = set()

    @contextmanager
    def message(
        self, messages: Iterator[bytes], context: grpc.ServicerContext, deadline: Deadline
    ) -> Iterator[bytes]:
        """Read one message; its memory is held until the block ends."""
        self._take(deadline)
        held = READING
        try:
            raw = self._read(messages, context)
            with self._changed:  # from now on it counts as what it is
                self._free += held - len(raw)
                held = len(raw)
                self._changed.notify_all()
            yield raw
        finally:
            with self._changed:
                self._free += held
                self._changed.notify_all()

    def _read(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        with self._patience.within(context, ARRIVAL_SECONDS, idle=True) as held:
            with self._changed:
                self._reading.add(held)
            try:
                raw = read_next(messages)
            finally:
                with self._changed:
                    self._reading.discard(held)
        if raw is None:
            raise BadInput("the request has no message")
        return raw

    def _take(self, deadline: Deadline) -> None:
        with self._changed:
            if self._free < READING and self._waiting >= MOST_WAITING:
                raise Overloaded("too many messages are being read: try again later")
            self._waiting += 1
            try:
                while self._free < READING:
                    deadline.check()
                    self._send_the_slowest_away()
                    self._changed.wait(0.05)
                self._free -= READING
            finally:
                self._waiting -= 1

    def _send_the_slowest_away(self) -> None:
        slowest = min(self._reading, key=lambda held: held.since, default=None)
        if slowest is not None and time.monotonic() - slowest.since > SLOW_SECONDS:
            self._reading.discard(slowest)
            slowest.context.cancel()


def read_next(messages: Iterator[bytes]) -> bytes | None:
    """Return the next message of a request; None when there are no more."""
    try:
        return next(messages, None)
    except grpc.RpcError as error:  # gRPC says no more than that
        raise Cancelled("the caller has gone, or its message came too slowly") from error
