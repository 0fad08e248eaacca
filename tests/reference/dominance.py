"""The distance of a vector to the hull of others, and the rounds of dominance pruning."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Mixture = tuple[float, list[int]]


def hull_distance(vector: NDArray[Any], others: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Return the exact distance to the convex hull of ``others``, and the nearest mixture.

    Non-negative least squares, with a heavy row that makes the shares add up to one.
    """
    heavy = 1e4
    matrix = np.vstack([others.T, np.full(len(others), heavy)])
    shares, _ = nnls(matrix.astype(np.float64), np.append(vector, heavy).astype(np.float64))
    shares /= shares.sum()
    return float(np.linalg.norm(vector - shares @ others)), shares


def mixture(table: NDArray[Any], token: int, alive: list[int], count: int, steps: int) -> Mixture:
    """Return the distance of a mixture of the nearest living tokens, and which make it up.

    Moves share, step by step, from the neighbour that helps least to the one that helps most.
    """
    near = sorted((p for p in alive if p != token), key=lambda p: -table[token, p])[:count]
    gram, reach = table[np.ix_(near, near)], table[token, near]
    shares = np.zeros(len(near))
    shares[0] = 1.0
    for _ in range(steps * count):
        slope = gram @ shares - reach
        best = int(slope.argmin())
        worst = int(np.where(shares > 0, slope, -np.inf).argmax())
        bend = gram[best, best] + gram[worst, worst] - 2 * gram[best, worst]
        step = min(max((slope[worst] - slope[best]) / max(bend, 1e-9), 0.0), shares[worst])
        shares[best] += step
        shares[worst] -= step
    squared = 1 - 2 * shares @ reach + shares @ gram @ shares
    distance = round(float(np.sqrt(max(squared, 0.0))) * 2**16) / 2**16
    return distance, [p for p, s in zip(near, shares, strict=True) if s > 1e-9]


def dominance(
    vectors: NDArray[Any], size: int, count: int, steps: int, limit: float = np.inf
) -> list[int]:
    table = (vectors.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    table = table.astype(np.float64)
    np.fill_diagonal(table, 1.0)
    alive = list(range(len(vectors)))
    known: dict[int, Mixture] = {}
    while len(alive) > size:
        for token in alive:
            if token not in known:
                known[token] = mixture(table, token, alive, count, steps)
        order = sorted(alive, key=lambda p: (known[p][0], p))
        rank = {token: place for place, token in enumerate(order)}
        goes = []
        for token in order:
            users = [p for p in alive if token in known[p][1]]
            partners = [*known[token][1], *users]
            if known[token][0] <= limit and all(rank[token] < rank[p] for p in partners):
                goes.append(token)
        goes = goes[: len(alive) - size]
        if not goes:
            break
        alive = [p for p in alive if p not in goes]
        known = {p: known[p] for p in alive if not set(known[p][1]) & set(goes)}
    return alive
