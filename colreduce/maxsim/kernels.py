"""Kernels compiled by numba. They release the GIL and allocate nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})  # type: ignore[untyped-decorator, unused-ignore]
def row_runs_max(
    rows: NDArray[np.float32], ends: NDArray[np.int64], best: NDArray[np.float32]
) -> Any:
    """Fill ``best`` [n, q] with the largest value per column of each run of ``rows`` [t, q]."""
    start = 0
    for run in range(len(ends)):
        found = best[run]
        found[:] = rows[start]
        for row in range(start + 1, ends[run]):
            for column in range(rows.shape[1]):
                found[column] = max(found[column], rows[row, column])
        start = ends[run]
