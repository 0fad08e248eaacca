"""What the first stage misses while people search: some searches are scored again exactly.

A thread of its own does that, after the caller has its answer and with less claim on the cores than
the requests. When it cannot keep up, searches are left out and counted.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from colreduce_service.call import Call, Searched
from colreduce_service.insight.metrics import Metrics

log = logging.getLogger(__name__)

# Searches that may wait to be scored again.
WAITING = 4

# How much less claim on the cores than a request the thread has.
NICENESS = 15

_Item: TypeAlias = "tuple[str, Searched] | None"


class Shadow:
    """Scores one of so many searches again, and counts how much of it was answered."""

    def __init__(self, every: int, metrics: Metrics) -> None:
        self._every = every
        self._metrics = metrics
        self._count = 0
        self._waiting: queue.Queue[_Item] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def __call__(self, call: Call, code: str) -> None:
        """Take some of the searches of a request that was answered."""
        if code != "OK":
            return
        for searched in call.searched:
            self._count += 1
            if self._count % self._every or searched.asked.exact:
                continue
            try:
                self._waiting.put_nowait((call.collection, searched))
            except queue.Full:
                self._metrics.dropped()

    def close(self) -> None:
        """Finish what waits and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # on Linux a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (item := self._waiting.get()) is not None:
            collection, searched = item
            try:
                share = agreement(searched)
            except Exception:  # without this thread nothing would be scored again, nor it be ended
                log.exception("a search of %s could not be scored again", collection)
                self._metrics.dropped()
            else:
                self._metrics.agreed(collection, share)


def agreement(searched: Searched) -> float:
    """Return which share of exact search's hits was answered, on the same generation."""
    asked = replace(searched.asked, exact=True, check=lambda: None, seconds={})
    exact = {hit.id for hit in searched.view.search(asked)}
    if not exact:
        return 1.0
    return len(exact & {hit.id for hit in searched.hits}) / len(exact)
