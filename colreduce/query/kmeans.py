"""Clusters of a query's vectors, each replaced by its mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from colreduce.method import parameter
from colreduce.query.base import QueryReducer
from colreduce.query.seeds import cosines, farthest_first

CANCELLED = 1e-6  # a mean this short is rounding noise


@dataclass(frozen=True, kw_only=True)
class QueryKMeans(QueryReducer):
    """Replace clusters of a query's vectors by their means.

    Every cluster counts once, however many vectors it stands for, so this changes what a query
    asks for. Queries that are short enough pass unchanged.
    """

    name = "query_kmeans"
    paper = "Veneroso et al. 2025 (CRISP), arXiv 2505.11471"
    when = "With encoders trained for it, or for very long queries; query_balls is safer."
    size: int = parameter(8, "vectors to leave", low=1, shown=True)
    iterations: int = parameter(10, "how often the centres are moved", low=0)
    renormalise: bool = parameter(True, "scale the means back to unit length")

    def shrink(self, query: Tensor) -> Tensor:
        """Move centres to the means of the vectors nearest to them."""
        if len(query) <= self.size:
            return query
        unit = normalize(query.double(), dim=1)
        centres = unit[farthest_first(cosines(query), self.size)]
        labels = (unit @ centres.T).argmax(1)
        for _ in range(self.iterations):
            sums = torch.zeros_like(centres).index_add_(0, labels, unit)
            filled = torch.bincount(labels, minlength=self.size) > 0
            centres = torch.where(filled[:, None], normalize(sums, dim=1), centres)
            moved = (unit @ centres.T).argmax(1)
            if torch.equal(moved, labels):
                break
            labels = moved
        _, groups = torch.unique(labels, return_inverse=True)
        return means(query, groups, renormalise=self.renormalise)


def means(query: Tensor, groups: Tensor, *, renormalise: bool) -> Tensor:
    """Return the mean of every group, in the order of the numbers ``groups`` [q] from 0."""
    counts = torch.bincount(groups)
    sums = torch.zeros(len(counts), query.shape[1], dtype=torch.float64, device=query.device)
    found = sums.index_add_(0, groups, query.double()) / counts[:, None]
    if renormalise:
        # Vectors that cancel have no direction; then the first of the group stands in.
        first = torch.stack([query[groups == number][0] for number in range(len(counts))])
        lost = found.norm(dim=1, keepdim=True) < CANCELLED
        found = normalize(torch.where(lost, first.double(), found), dim=1)
    return found.to(query.dtype)
