"""The rows that a search may return."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class Passing:
    """Which rows of every segment are live and pass a filter."""

    def __init__(self, masks: Sequence[NDArray[np.bool_]]) -> None:
        self._masks = masks
        self._runs: dict[tuple[int, int], tuple[bool, NDArray[np.bool_] | None]] = {}

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Say of every row of all segments whether it passes."""
        return np.concatenate([np.zeros(0, dtype=bool), *self._masks])

    def run(self, first: int, last: int) -> tuple[bool, NDArray[np.bool_] | None]:
        """Say of a run of segments whether any row passes, and which do; None if all do."""
        if (first, last) not in self._runs:
            alone = last - first == 1
            mask = self._masks[first] if alone else np.concatenate(self._masks[first:last])
            self._runs[first, last] = bool(mask.any()), None if mask.all() else mask
        return self._runs[first, last]
