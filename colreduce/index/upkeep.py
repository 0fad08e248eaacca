"""Upkeep: compaction of small and half-dead segments in the background, while others work.

The thread lives only as long as there is something to do, so an index that is searched and nothing
else has none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from colreduce.errors import ColreduceError, CompactionBehind
from colreduce.store import Store

log = logging.getLogger(__name__)

# Upserts wait at this many segments; compaction begins at half of it.
MOST_SEGMENTS = 64

# Seconds that an upsert waits for compaction before it is turned away.
PATIENCE = 30.0

# Seconds that closing waits for a compaction under way before it is given up.
FAREWELL = 2.0

# Seconds after a failed compaction before the next try, so that a full disk is not asked for ever.
AFTER_FAILURE = 30.0


# Seconds between two looks at old files that are still too young to go.
LOOK_AGAIN = 5.0


class _GivenUp(Exception):
    """The index is being closed."""


class Upkeep:
    """Compacts what is worth it, and removes what nobody needs any more."""

    def __init__(self, store: Store, merge: Callable[..., Any]) -> None:
        """``merge(due=True, check=...)`` moves the documents of the segments that are due."""
        self.problem = ""  # why the last compaction failed
        self._store = store
        self._merge = merge
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._news = False  # something was committed since the thread looked
        self._not_before = 0.0  # when to compact again after a failure
        self._closing: float | None = None  # when a compaction is given up

    def look(self) -> None:
        """See whether there is anything to do, and do it in the background; returns at once."""
        with self._changed:
            self._news = True
            self._changed.notify_all()
            if self._thread is None and self._closing is None and self._work():
                self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
                self._thread.start()

    def require_room(self) -> None:
        """Raise `CompactionBehind` when there are too many segments for one more."""
        count = len(self._store.snapshot().segments)
        if count >= MOST_SEGMENTS:
            self.look()
            why = f"; the last try failed: {self.problem}" if self.problem else ""
            raise CompactionBehind(
                f"{count} segments wait to be compacted{why}. Nothing was changed: try again later"
            )

    def wait_for_room(self) -> None:
        """Wait until there is room for one more segment; raise `CompactionBehind` if none comes."""
        until = time.monotonic() + PATIENCE
        while len(self._store.snapshot().segments) >= MOST_SEGMENTS:
            self.look()
            with self._changed:
                hopeless = self._thread is None or bool(self.problem)
                if hopeless or time.monotonic() >= until:
                    self.require_room()
                self._changed.wait(0.05)

    def close(self) -> None:
        """End the thread; a compaction that takes long is given up, and nothing is lost by it."""
        with self._changed:
            self._closing = time.monotonic() + FAREWELL
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> bool:
        return self._store.writable and (self._due() or self._store.waste)

    def _due(self) -> bool:
        return time.monotonic() >= self._not_before and bool(self._store.due())

    def _run(self) -> None:
        while True:
            with self._changed:
                self._news = False
                if self._closing is not None or not self._work():
                    self._thread = None
                    self._changed.notify_all()
                    return
            done = self._once()
            with self._changed:
                if not (done or self._news or self._closing is not None):
                    self._changed.wait(LOOK_AGAIN)

    def _once(self) -> bool:
        """Compact what is due or else remove old files; return whether anything was done."""
        try:
            if not self._due():
                return bool(self._store.collect())
            self._merge(due=True, check=self._check)
            self.problem = ""
            return True
        except _GivenUp:
            return False
        except Exception as problem:
            expected = isinstance(problem, (ColreduceError, OSError))
            log.warning(
                "compacting %s failed: %s", self._store.path, problem, exc_info=not expected
            )
            self.problem = str(problem)
            self._not_before = time.monotonic() + AFTER_FAILURE
            return False

    def _check(self) -> None:
        """Give up a compaction when the index has waited long enough to be closed."""
        if self._closing is not None and time.monotonic() > self._closing:
            raise _GivenUp
