"""Losses and the budgets that follow from them, written out for one document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def token_losses(vectors: NDArray[Any], left: NDArray[Any]) -> NDArray[Any]:
    """Return 1 - cosine to the nearest vector left, for every token."""
    units = [row / np.linalg.norm(row) for row in vectors.astype(np.float64)]
    others = [row / np.linalg.norm(row) for row in left.astype(np.float64)]
    return np.array([1 - max(float(unit @ other) for other in others) for unit in units])


def smallest_size(
    vectors: NDArray[Any], left: Callable[[int], NDArray[Any]], bound: float, kind: str
) -> int:
    """Return the smallest size whose loss is at most the bound, trying one after the other."""
    for size in range(1, len(vectors)):
        lost = token_losses(vectors, left(size))
        if (lost.mean() if kind == "mean" else lost.max()) <= bound:
            return size
    return len(vectors)


def cheapest_size(sizes: list[int], lost: list[float], price: float) -> int:
    """Return the whole number between the first size and the last at which loss + price is least.

    Between two sizes that were tried the loss falls evenly with the logarithm of the size.
    """
    costs = {
        size: float(np.interp(np.log(size), np.log(sizes), lost)) + price * size
        for size in range(sizes[0], sizes[-1] + 1)
    }
    return min(costs, key=lambda size: (costs[size], size))
