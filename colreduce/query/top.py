"""The vectors of a query that say most of what it asks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import parameter
from colreduce.query.base import QueryReducer
from colreduce.query.seeds import cosines, farthest_first


@dataclass(frozen=True, kw_only=True)
class QueryTop(QueryReducer):
    """Keep a few of a query's own vectors and drop the others.

    ``by="coverage"`` adds the vector that brings all of the query nearest to what is kept;
    ``by="distinct"`` adds the one least like those kept. With ``weigh`` a kept vector counts for
    all that are nearest to it, so that scores keep their scale.
    """

    name = "query_top"
    paper = "facility location; farthest-first traversal (Gonzalez 1985)"
    when = "To bound the cost of a query, whatever its length."
    size: int = parameter(8, "vectors to leave", low=1, shown=True)
    by: str = parameter("coverage", "coverage or distinct", choices=("coverage", "distinct"))
    weigh: bool = parameter(True, "let kept vectors count for those nearest to them")

    def shrink(self, query: Tensor) -> Tensor:
        """Choose, put in order, and weigh."""
        if len(query) <= self.size:
            return query
        table = cosines(query)
        choose = _covering if self.by == "coverage" else farthest_first
        kept = choose(table, self.size).sort().values
        if not self.weigh:
            return query[kept]
        owner = table[:, kept].argmax(1)
        owner[kept] = torch.arange(self.size, device=query.device)
        counts = torch.bincount(owner, minlength=self.size)
        return query[kept] * counts[:, None].to(query.dtype)


def _covering(table: Tensor, size: int) -> Tensor:
    """Return ``size`` positions, each adding most to the sum of cosines to the nearest one."""
    nearest = torch.full_like(table[0], -1.0)
    taken = torch.zeros(len(table), dtype=torch.bool, device=table.device)
    chosen = []
    for _ in range(size):
        gains = torch.maximum(table, nearest).sum(1).masked_fill(taken, -torch.inf)
        pick = gains.argmax()
        taken[pick] = True
        chosen.append(pick)
        nearest = torch.maximum(nearest, table[pick])
    return torch.stack(chosen)
