"""Groups of near vectors of a query, each replaced by its sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import parameter
from colreduce.query.base import QueryReducer
from colreduce.query.seeds import cosines


@dataclass(frozen=True, kw_only=True)
class QueryBalls(QueryReducer):
    """Replace vectors of a query that are near one another by their sum.

    The first vector takes in all that have at least ``threshold`` as their cosine to it, then
    the first of those left does, and so on. A sum asks for as much as the vectors in it, so scores
    keep their scale and change little.
    """

    name = "query_balls"
    paper = "ball carving in MUVERA, arXiv 2405.19504"
    when = "For queries padded to 32 vectors or more, to search faster at nearly equal results."
    threshold: float = parameter(0.7, "least cosine to the vector in the middle", low=-1, high=1)

    def shrink(self, query: Tensor) -> Tensor:
        """Carve one ball after the other and add up what is in it."""
        near = cosines(query) >= self.threshold
        owner = torch.full((len(query),), -1, dtype=torch.int64, device=query.device)
        balls = 0
        for centre in range(len(query)):
            if int(owner[centre]) < 0:
                owner[(near[centre] & (owner < 0))] = balls
                owner[centre] = balls
                balls += 1
        sums = torch.zeros(balls, query.shape[1], dtype=torch.float64, device=query.device)
        return sums.index_add_(0, owner, query.double()).to(query.dtype)
