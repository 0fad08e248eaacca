"""Hierarchical clustering of one document, every distance between groups computed anew."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.cover import whole
from tests.reference.ward import partition

LINKS = {"average": np.mean, "complete": np.max, "single": np.min}


def agglomerative(vectors: NDArray[Any], size: int, linkage: str) -> list[int]:
    """Merge the two groups that the linkage calls nearest, until few enough are left."""
    points = whole(vectors).astype(np.float64)
    apart = ((points[:, None] - points[None]) ** 2).sum(2)
    groups = [[token] for token in range(len(points))]
    while len(groups) > 1:
        costs = {
            (one, other): float(LINKS[linkage](apart[np.ix_(groups[one], groups[other])]))
            for one in range(len(groups))
            for other in range(one + 1, len(groups))
        }
        nearest = min(costs, key=lambda pair: costs[pair])
        if len(groups) <= size and costs[nearest] > 0:
            break
        groups[nearest[0]] += groups.pop(nearest[1])
    labels = [0] * len(points)
    for number, group in enumerate(groups):
        for token in group:
            labels[token] = number
    return partition(labels)
