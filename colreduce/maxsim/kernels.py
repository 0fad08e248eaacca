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


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def row_runs_max_bfloat16(
    rows: NDArray[np.int16], ends: NDArray[np.int64], best: NDArray[np.int16]
) -> Any:
    """Do the same for bfloat16, whose bits are given as integers.

    The bits of negative numbers are in the wrong order as integers, so all but their sign is
    turned round before they are compared, and turned back afterwards.
    """
    start = 0
    for run in range(len(ends)):
        found = best[run]
        found[:] = -32768
        for row in range(start, ends[run]):
            for column in range(rows.shape[1]):
                bits = rows[row, column]
                ordered = np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF)))
                found[column] = max(found[column], ordered)
        for column in range(rows.shape[1]):
            bits = found[column]
            found[column] = np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF)))
        start = ends[run]
