"""Admission: how many requests run, how many wait, and what happens to the rest.

A queue without a bound makes everybody wait until the deadline as soon as there is too much to do.
Here a few wait, in order, and the others are told at once to try again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from colreduce.errors import Overloaded, Unavailable
from colreduce_service.deadline import Deadline


class Admission:
    """Lets ``workers`` requests run and ``queue`` more wait. Closed until it is opened."""

    def __init__(self, workers: int, queue: int) -> None:
        self.workers = workers
        self.queue = queue
        self._changed = threading.Condition()
        self._running = 0
        self._waiting: deque[object] = deque()
        self._closed = "the server is starting"

    @property
    def in_flight(self) -> int:
        """Return how many requests run or wait."""
        with self._changed:
            return self._running + len(self._waiting)

    def open(self) -> None:
        """Let requests in from now on."""
        with self._changed:
            self._closed = ""

    def close(self, why: str) -> None:
        """Send requests away from now on; those already inside go on."""
        with self._changed:
            self._closed = why

    @contextmanager
    def enter(self, context: grpc.ServicerContext, deadline: Deadline) -> Iterator[None]:
        """Hold a place among the running requests, or say why there is none."""
        with self._changed:
            self._take_place(context, deadline)
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _take_place(self, context: grpc.ServicerContext, deadline: Deadline) -> None:
        if self._closed:
            raise Unavailable(f"{self._closed}: try again")
        if self._running < self.workers and not self._waiting:
            self._running += 1
            return
        if len(self._waiting) >= self.queue:
            raise Overloaded(
                f"{self._running} requests run and {len(self._waiting)} wait, which is as many as "
                "this server takes: try again later"
            )
        ticket = object()
        self._waiting.append(ticket)
        try:
            # A caller that goes away must not keep its place in the queue until its turn.
            context.add_callback(self._look_again)
            while self._waiting[0] is not ticket or self._running >= self.workers:
                deadline.check()
                self._changed.wait(deadline.left())
            deadline.check()
            self._running += 1
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()
