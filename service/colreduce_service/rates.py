"""How much each caller may ask: a bucket that fills with time and is emptied by what requests cost.

A request is let in while anything is left in the bucket, and is charged when its cost is known; so
a large one leaves a debt, and the caller waits until that is paid.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from colreduce.errors import RateLimited

# A bucket holds what flows into it in this time, for those who ask seldom and then much.
BURST_SECONDS = 5.0

# Callers remembered; the one that has been silent longest is forgotten, with its debt.
MOST_CALLERS = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float = field(default_factory=time.monotonic)


class Rates:
    """One bucket for each caller. A search costs its query vectors times its candidates."""

    def __init__(self, rate: float) -> None:
        """``rate`` flows into every bucket each second; 0 sets no limit."""
        self._rate = rate
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._guard = threading.Lock()

    def check(self, name: str) -> None:
        """Raise when the caller of that name has asked more than it may."""
        if not self._rate:
            return
        with self._guard:
            left = self._bucket(name).left
        if left <= 0:
            wait = (1 - left) / self._rate
            raise RateLimited(
                f"{name} has asked more than {self._rate:,.0f} units a second (query vectors x "
                f"candidates): try again in {wait:.1f} seconds",
                retry_after=wait,
            )

    def charge(self, name: str, cost: float) -> None:
        """Take the cost of a request from its caller's bucket."""
        if self._rate and cost:
            with self._guard:
                self._bucket(name).left -= cost

    def _bucket(self, name: str) -> _Bucket:
        now, most = time.monotonic(), self._rate * BURST_SECONDS
        bucket = self._buckets.setdefault(name, _Bucket(most, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        bucket.left = min(most, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket
