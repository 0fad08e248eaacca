"""Who is told of every request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from colreduce_service.call import Call

log = logging.getLogger(__name__)

# Told of a request that is over, and of the name of its status.
Observer: TypeAlias = Callable[[Call, str], None]


class Observers:
    """Several observers; what one of them raises is logged and stops nothing."""

    def __init__(self) -> None:
        self._all: list[Observer] = []
        self._failed: set[Observer] = set()

    def add(self, observer: Observer) -> None:
        """Tell one more of every request."""
        self._all.append(observer)

    def __call__(self, call: Call, code: str) -> None:
        """Tell all of them."""
        for observer in self._all:
            try:
                observer(call, code)
            except Exception:
                if observer not in self._failed:  # once is enough
                    self._failed.add(observer)
                    log.exception("a request could not be observed")
