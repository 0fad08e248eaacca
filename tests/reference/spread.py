"""Greedy selectors, written out for one document of unit vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def cosines(vectors: Floats) -> Floats:
    wide = vectors.astype(np.float64)
    # Two tokens that are each other's nearest must not differ by rounding.
    return np.asarray((wide @ wide.T).astype(np.float32).astype(np.float64))


def centrality(vectors: Floats) -> Floats:
    """Return the mean cosine of each token to all, in whole millionths (2**-20)."""
    return np.asarray((cosines(vectors).mean(1) * 2**20).round())


def _grow(start: int, length: int, size: int, gain: Callable[[int, list[int]], float]) -> list[int]:
    chosen = [start]
    while len(chosen) < size:
        free = [p for p in range(length) if p not in chosen]
        chosen.append(max(free, key=lambda p: (gain(p, chosen), -p)))
    return sorted(chosen)


def kcenter(vectors: Floats, size: int, aim: str = "nearest") -> list[int]:
    table = cosines(vectors)
    start = int(centrality(vectors).argmax())

    def gain(position: int, chosen: list[int]) -> float:
        distances = [1 - table[position, other] for other in chosen]
        return min(distances) if aim == "nearest" else sum(distances)

    return _grow(start, len(vectors), size, gain)


def maxmin(vectors: Floats, size: int) -> list[int]:
    table = cosines(vectors)
    nearest = [max([-2.0, *row[:i], *row[i + 1 :]]) for i, row in enumerate(table)]
    return _grow(
        int(np.argmin(nearest)),
        len(vectors),
        size,
        lambda position, chosen: min(1 - table[position, other] for other in chosen),
    )


def mmr(
    vectors: Floats, size: int, trade: float, worth: str, weights: Floats | None = None
) -> list[int]:
    table = cosines(vectors)
    mean = vectors.astype(np.float64).mean(0)
    cosine = vectors @ mean / np.linalg.norm(mean)
    own = cosine if worth == "central" else 1 - cosine
    if worth == "importance":
        assert weights is not None
        own = weights / weights.max()
    return _grow(
        int(np.argmax(own)),
        len(vectors),
        size,
        lambda p, chosen: trade * own[p] - (1 - trade) * max(table[p, o] for o in chosen),
    )


def dart(vectors: Floats, size: int, pivots: int) -> list[int]:
    table = cosines(vectors)
    density = centrality(vectors)
    own = min(pivots, size)
    chosen = sorted(sorted(range(len(vectors)), key=lambda p: (-density[p], p))[:own])
    rest = size - own
    for number, pivot in enumerate(list(chosen)):
        share = rest // own + (number < rest % own)
        free = [p for p in range(len(vectors)) if p not in chosen]
        chosen += sorted(free, key=lambda p: (table[pivot, p], p))[:share]
    return sorted(chosen)
