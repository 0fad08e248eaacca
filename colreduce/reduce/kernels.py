"""Kernels compiled by numba. They take whole buckets, release the GIL and allocate little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Numbers: TypeAlias = NDArray[Any]

I32, I64 = np.int32, np.int64


def native(function: Function) -> Function:
    """Compile a function on its first call, and keep the compiled code on disk."""
    return cast(Function, njit(nogil=True, cache=True)(function))


@native
def facility_location(
    tables: Numbers,
    weights: Numbers,
    nothing: Numbers,
    lengths: Numbers,
    sizes: Numbers,
    turns: Numbers,
    owners: Numbers,
) -> None:
    """Pick ``sizes`` tokens of each document; fill in turns and owners [b, l].

    tables   [b, l, l]         products of the tokens
    weights  [b, l] or [b, 0]  how much each token counts; nothing says all alike
    nothing  [b]               what a token has while nothing is picked
    """
    for item in range(len(lengths)):
        n = lengths[item]
        best = np.full(n, nothing[item], I32)
        table, counts, size = tables[item], weights[item], sizes[item]
        heaviest = 1 if len(counts) == 0 else counts.max()
        if 2 * n * heaviest * -I64(nothing[item]) < 2**31:
            gains32 = np.zeros(n, I32)
            _pick(table, counts, best, gains32, size, turns[item], owners[item])
        else:
            gains64 = np.zeros(n, I64)
            _pick(table, counts, best, gains64, size, turns[item], owners[item])


@native
def _pick(
    table: Any, weights: Any, best: Any, gains: Any, size: int, turn: Any, owner: Any
) -> None:
    """Pick one token after the other, keeping every gain up to date."""
    nothing = best[0]
    for token in range(len(best)):
        _add(gains, table[token], nothing, _weight(weights, token))
    for step in range(size):
        pick = _first_largest(gains)
        row = table[pick]
        for token in range(len(best)):
            if row[token] > best[token]:
                _take(gains, table[token], best[token], row[token], _weight(weights, token))
                best[token] = row[token]
                owner[token] = step
        owner[pick] = turn[pick] = step
        gains[pick] = -1


@native
def _weight(weights: Any, token: int) -> int:
    return 1 if len(weights) == 0 else weights[token]


@native
def _add(gains: Any, row: Any, nothing: int, weight: int) -> None:
    factor = gains.dtype.type(weight)
    for candidate in range(len(gains)):
        gains[candidate] += factor * (row[candidate] - nothing)


@native
def _take(gains: Any, row: Any, old: int, new: int, weight: int) -> None:
    """Take away what candidates no longer add now that a token went from ``old`` to ``new``."""
    for candidate in range(len(gains)):
        gains[candidate] -= weight * (min(max(row[candidate], old), new) - old)


@native
def _first_largest(values: Any) -> int:
    largest = values[0]
    for place in range(len(values)):
        largest = max(largest, values[place])
    for place in range(len(values)):
        if values[place] == largest:
            return place
    return 0
