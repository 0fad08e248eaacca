"""How long an answer is worth working on."""

from __future__ import annotations

import time

import grpc

from colreduce.errors import Cancelled, DeadlineExceeded
from colreduce_service.methods import MOST_SECONDS


class Deadline:
    """When a request's time is up, and whether its caller is still there."""

    def __init__(self, context: grpc.ServicerContext, most: float = MOST_SECONDS) -> None:
        """``most`` holds for a caller that names no time, or a longer one."""
        self._context = context
        remaining = context.time_remaining()
        seconds = most if remaining is None else min(remaining, most)
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never less than zero."""
        return max(self._end - time.monotonic(), 0.0)

    def check(self, needed: float = 0.0) -> None:
        """Stop the request here if nobody waits for its answer, or ``needed`` seconds are not left.

        A search that usually takes longer than what is left would only cost the others their time.
        """
        if time.monotonic() + needed >= self._end:
            raise DeadlineExceeded("the time for this request was up before the answer was there")
        if not self._context.is_active():
            raise Cancelled("the caller has gone")
