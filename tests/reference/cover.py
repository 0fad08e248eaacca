"""Greedy facility location for one document, every gain computed anew in every turn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole(vectors: NDArray[Any]) -> NDArray[np.int64]:
    """Scale to unit length, then round so that the largest coordinate becomes 127."""
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors.astype(np.float32), axis=1)[:, None]
    scale = np.minimum(np.float32(127) / np.abs(unit).max(), np.float32(4000))
    return np.round(unit * scale).astype(np.int64)


def whole_weights(weights: NDArray[Any]) -> list[int]:
    """Count weights in steps of one 64th of the heaviest."""
    return [max(1, round(float(weight / weights.max() * 64))) for weight in weights]


def facility_location(
    vectors: NDArray[Any], size: int, weights: list[int] | None = None
) -> tuple[list[int], list[int]]:
    """Return the tokens picked, in their order, and for each token the turn of its own pick."""
    points = whole(vectors)
    products = points @ points.T
    weights = weights or [1] * len(points)
    nothing = -int(products.diagonal().max())
    best = [nothing] * len(points)
    picks: list[int] = []
    for _ in range(size):
        gains = {
            candidate: sum(
                weight * max(int(products[candidate, token]) - best[token], 0)
                for token, weight in enumerate(weights)
            )
            for candidate in range(len(points))
            if candidate not in picks
        }
        picks.append(min(gains, key=lambda candidate: (-gains[candidate], candidate)))
        best = [max(old, int(products[picks[-1], token])) for token, old in enumerate(best)]
    owners = [
        picks.index(token)
        if token in picks
        else max(range(size), key=lambda turn: (products[picks[turn], token], -turn))
        for token in range(len(points))
    ]
    return picks, owners
