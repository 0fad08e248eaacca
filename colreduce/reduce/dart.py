"""Pivots, and for each pivot the tokens that are least like it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Selector
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.products import centrality, products


@dataclass(frozen=True, kw_only=True)
class Dart(Selector):
    """Keep a few pivots, and for each of them as many of the tokens that are least like it.

    Pivots are the tokens with the greatest mean cosine to their document. In the order of the
    text, each takes its share of the tokens that are still free. Compares tokens with pivots only,
    so it is the cheapest selector that looks at vectors.
    """

    name = "dart"
    paper = "DART, arXiv 2502.11494"
    when = "Where speed is all that counts; it is no better than random on text."
    pivots: int = parameter(4, "number of pivots", low=1)

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Choose in every bucket."""
        chosen = torch.zeros(len(batch.tokens), dtype=torch.bool, device=batch.device)
        for bucket in buckets(batch, sizes):
            scatter(bucket, self._choose(bucket), chosen)
        return chosen

    def _choose(self, bucket: Bucket) -> Tensor:
        count = min(self.pivots, bucket.tokens.shape[1])
        density = centrality(bucket).masked_fill(~bucket.mask, -torch.inf)
        # A document that may keep fewer tokens than there are pivots keeps the densest of them.
        own = bucket.sizes.clamp_max(count)[:, None]
        ranked = density.argsort(dim=1, descending=True, stable=True)[:, :count]
        longest = bucket.tokens.shape[1]
        places = torch.arange(count, device=ranked.device)
        pivots = torch.where(places < own, ranked, longest).sort(1).values
        taken = torch.zeros(len(ranked), longest + 1, dtype=torch.bool, device=ranked.device)
        taken.scatter_(1, pivots, True)
        taken = taken[:, :longest] & bucket.mask
        picked = pivots.clamp_max(longest - 1)[:, :, None].expand(-1, -1, bucket.tokens.shape[2])
        table = products(bucket.tokens.gather(1, picked), bucket.tokens)
        rest = bucket.sizes[:, None] - own
        shares = rest // own + (places < rest % own)
        for pivot in range(count):
            free = bucket.mask & ~taken
            order = table[:, pivot].masked_fill(~free, torch.inf).argsort(dim=1, stable=True)
            rank = order.argsort(dim=1)
            taken = taken | (free & (rank < shares[:, pivot : pivot + 1]))
        return taken
