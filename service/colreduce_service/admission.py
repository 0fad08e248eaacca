"""Admission: how many requests run, how many wait, and what happens to the rest.

A queue without a bound makes everybody wait until the deadline as soon as there is too much to do.
Here a few wait, in order, and the others are told at once to try again.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from colreduce.errors import ColreduceError, DeadlineExceeded, Overloaded, Unavailable
from colreduce_service.deadline import Deadline

# What a caller waits for a search when it does not say, and how much of it may go to queueing.
USUAL_SECONDS = 2.0
QUEUE_SHARE = 0.5

# What a request is taken to cost before any was measured, how many are remembered, and as how many
# the guess counts: the first one may have had to wait for a disk.
FIRST_GUESS = 0.03
REMEMBERED = 64
GUESSED = 8

# Each one that waits holds a thread, so the queue has an end however quick the answers are.
MOST_PER_WORKER = 32


@dataclass(eq=False, slots=True)
class _Ticket:
    """One request that waits for its turn."""

    granted: bool = False
    called: threading.Event = field(default_factory=threading.Event)  # its turn, or its end


class Admission:
    """Lets ``workers`` requests run and ``queue`` more wait. Closed until it is opened."""

    def __init__(self, workers: int, queue: int = 0) -> None:
        """With ``queue`` 0, as many may wait as are answered in half of a usual deadline."""
        self.workers = workers
        self._fixed = queue
        self._guard = threading.Lock()
        self._running = 0
        self._outside = 0  # those that lent their place to others for a while
        self._waiting: deque[_Ticket] = deque()
        self._closed = "the server is starting"
        self._took = deque([FIRST_GUESS] * GUESSED, maxlen=REMEMBERED)
        self._usual = FIRST_GUESS

    @property
    def most(self) -> int:
        """Return how many requests can ever be inside at once."""
        return self.workers + (self._fixed or MOST_PER_WORKER * self.workers)

    @property
    def queue(self) -> int:
        """Return how many may wait now."""
        if self._fixed:
            return self._fixed
        answered = int(QUEUE_SHARE * USUAL_SECONDS / max(self._usual, 1e-6))
        return min(max(answered, 1), MOST_PER_WORKER) * self.workers

    @property
    def in_flight(self) -> int:
        """Return how many requests run or wait."""
        with self._guard:
            return self._inside

    def open(self) -> None:
        """Let requests in from now on."""
        with self._guard:
            self._closed = ""

    def close(self, why: str) -> None:
        """Send requests away from now on; those already inside go on."""
        with self._guard:
            self._closed = why

    def require_room(self) -> None:
        """Send a request away before anything of it is read, if there is no place for it."""
        if (why := self.why_not()) is not None:
            raise why

    def why_not(self) -> ColreduceError | None:
        """Return why there is no place for a request now; None if there is one."""
        with self._guard:
            return self._why_not()

    @contextmanager
    def enter(self, context: grpc.ServicerContext, deadline: Deadline) -> Iterator[None]:
        """Hold a place among the running requests, or say why there is none."""
        self._take_place(context, deadline)
        began = time.perf_counter()
        try:
            yield
        except BaseException:
            self._give_place_back()
            raise
        self._give_place_back(time.perf_counter() - began)

    @contextmanager
    def outside(self, context: grpc.ServicerContext, deadline: Deadline) -> Iterator[None]:
        """Lend a place that is held to others while something else than a core is waited for.

        Whoever comes back is the next to get one, and counts meanwhile as one that waits.
        """
        self._give_place_back()
        with self._guard:
            self._outside += 1
        try:
            yield
            self._take_place(context, deadline, back=True)
        except BaseException:
            with self._guard:  # for a moment, until the block of `enter` gives it back
                self._running += 1
            raise
        finally:
            with self._guard:
                self._outside -= 1

    @property
    def _inside(self) -> int:
        return self._running + len(self._waiting) + self._outside

    def _why_not(self) -> ColreduceError | None:
        if self._closed:
            return Unavailable(f"{self._closed}: try again")
        if self._inside >= self.workers + self.queue:
            return Overloaded(
                f"{self._running} requests run and {self._inside - self._running} wait, which is "
                "as many as this server takes: try again later"
            )
        return None

    @property
    def _free(self) -> bool:
        return self._running < self.workers and not self._waiting

    def _take_place(
        self, context: grpc.ServicerContext, deadline: Deadline, *, back: bool = False
    ) -> None:
        with self._guard:
            if not back and (why := self._why_not()) is not None:
                raise why
            if self._free:
                self._running += 1
                return
            ticket = _Ticket()
            if back:
                self._waiting.appendleft(ticket)
            else:
                self._waiting.append(ticket)
        # A caller that goes away must not keep its place in the queue until its turn.
        if context.add_callback(ticket.called.set):
            ticket.called.wait(deadline.left())
        with self._guard:
            if not ticket.granted:
                self._waiting.remove(ticket)
        try:
            # One that will most likely be late would only cost the others their time.
            deadline.check(self._usual)
            if not ticket.granted:
                raise DeadlineExceeded("the time for this request was up before its turn came")
        except BaseException:
            if ticket.granted:
                self._give_place_back()
            raise

    def _give_place_back(self, took: float | None = None) -> None:
        """Let the next one in; ``took`` is how long a request ran that was answered."""
        with self._guard:
            self._running -= 1
            if took is not None:
                self._took.append(took)
                self._usual = statistics.median(self._took)
            while self._waiting and self._running < self.workers:
                ticket = self._waiting.popleft()
                ticket.granted = True
                self._running += 1
                ticket.called.set()
