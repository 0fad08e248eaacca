"""Voronoi pruning, written out: every cost computed anew before every drop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def drops(
    vectors: NDArray[Any], queries: NDArray[Any], size: int, limit: float = np.inf
) -> list[tuple[int, float]]:
    """Return what is dropped, in order, with its expected loss at that time."""
    left = list(range(len(vectors)))
    gone: list[tuple[int, float]] = []
    table = queries.astype(np.float64) @ vectors.astype(np.float64).T
    while len(left) > size:
        costs, wins = dict.fromkeys(left, 0.0), dict.fromkeys(left, 0)
        for row in table:
            second, first = sorted(left, key=lambda p: (row[p], -p))[-2:]
            costs[first] += (row[first] - row[second]) / len(queries)
            wins[first] += 1
        victim = min(left, key=lambda p: (wins[p] > 0, round(costs[p] / 1e-6), p))
        if costs[victim] > limit:
            break
        gone.append((victim, costs[victim]))
        left.remove(victim)
    return gone


def voronoi(
    vectors: NDArray[Any], queries: NDArray[Any], size: int, limit: float = np.inf
) -> list[int]:
    gone = {position for position, _ in drops(vectors, queries, size, limit)}
    return [p for p in range(len(vectors)) if p not in gone]
