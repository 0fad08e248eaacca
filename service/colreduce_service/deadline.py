"""How long an answer is worth working on."""

from __future__ import annotations

import time

import grpc

from colreduce.errors import DeadlineExceeded

# A request without a deadline gets this one; no request gets more.
MOST_SECONDS = 30.0


class Deadline:
    """When a request's time is up, and whether its caller is still there."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        remaining = context.time_remaining()
        seconds = MOST_SECONDS if remaining is None else min(remaining, MOST_SECONDS)
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never less than zero."""
        return max(self._end - time.monotonic(), 0.0)

    def check(self) -> None:
        """Stop the request here if nobody waits for its answer any more."""
        if not self._context.is_active():
            raise DeadlineExceeded("the caller has gone")
        if time.monotonic() >= self._end:
            raise DeadlineExceeded("the time for this request was up before the answer was there")
