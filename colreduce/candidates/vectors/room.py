"""Rows in memory that grow at their end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Room for so many rows at least, and for half as many again as there are.
LEAST = 64


class Room:
    """An array with free room behind its rows.

    Rows that were written are never touched again. So whoever holds the first of them may go on
    reading while more are written behind, and those who hold different numbers of rows share them.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self._array = np.empty((max(LEAST, len(rows) * 3 // 2), *rows.shape[1:]), rows.dtype)
        self._array[: len(rows)] = rows
        self._used = len(rows)

    def extended(self, have: int, more: NDArray[Any]) -> Room:
        """Return room that holds the first ``have`` rows and ``more`` behind them: often this."""
        stop = have + len(more)
        if have != self._used or stop > len(self._array):
            return Room(np.concatenate([self._array[:have], more]))
        self._array[have:stop] = more
        self._used = stop
        return self

    def rows(self, count: int) -> NDArray[Any]:
        """Return the first rows."""
        return self._array[:count]
