"""Ward's clustering of one document: the right one, and the ones other tools make."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from tests.reference.cover import whole


def partition(labels: Any) -> list[int]:
    """Number groups in the order of their first tokens."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(label), len(numbers)) for label in labels]


def spread(points: NDArray[Any]) -> float:
    """Return the sum of squared distances to the mean."""
    return float(((points - points.mean(0)) ** 2).sum())


def ward(vectors: NDArray[Any], size: int) -> list[int]:
    """Merge the two groups whose union adds least to the spread, measured anew every time."""
    points = whole(vectors).astype(np.float64)
    groups = [[token] for token in range(len(points))]
    while len(groups) > 1:
        costs = {
            (one, other): spread(points[groups[one] + groups[other]])
            - spread(points[groups[one]])
            - spread(points[groups[other]])
            for one in range(len(groups))
            for other in range(one + 1, len(groups))
        }
        nearest = min(costs, key=lambda pair: costs[pair])
        if len(groups) <= size and costs[nearest] > 1e-6:
            break
        groups[nearest[0]] += groups.pop(nearest[1])
    labels = [0] * len(points)
    for number, group in enumerate(groups):
        for token in group:
            labels[token] = number
    return partition(labels)


def colpali_engine(embedding: torch.Tensor, pool_factor: int) -> torch.Tensor:
    """Pool a page as colpali-engine's hierarchical pooler does: rows of 1 - cosine as points.

    Written from its description: Ward on the square matrix, max(n // factor, 1) clusters by
    maxclust, means, scaled to unit length, in the order of the cluster numbers.
    """
    distances = (1 - torch.mm(embedding, embedding.T)).float().numpy()
    tree = linkage(pdist(distances), method="ward")  # what linkage does with rows as points
    labels = fcluster(tree, t=max(len(embedding) // pool_factor, 1), criterion="maxclust")
    means = [embedding[torch.from_numpy(labels == label)].mean(0) for label in np.unique(labels)]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)
