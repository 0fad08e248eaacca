"""VisionZip: the strongest tokens stay, the others are merged into tokens at equal distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.bipartite import NEVER, largest
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.clusters import gather
from colreduce.reduce.whole import on_grid, whole


@dataclass(frozen=True, kw_only=True)
class VisionZip(Merger):
    """Keep the strongest tokens as they are, and merge the others into a few.

    ``by`` says what makes a token strong: the encoder's ``importance``, or being ``central``,
    near the mean of its document. Of the others, those at equal distances in the document take in
    the rest; such a token counts as much in its vector as all that it took in.
    """

    name = "visionzip"
    paper = "VisionZip, arXiv 2412.04467"
    when = "On pages, whose encoders tell attention."
    dominant: float = parameter(0.84375, "share of the vectors that are kept tokens", low=0, high=1)
    by: str = parameter("central", "central or importance", choices=("central", "importance"))

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Number the kept tokens and the targets; give the others to the nearest target."""
        labels = torch.empty_like(batch.positions)
        shares = torch.empty(len(batch.tokens), device=batch.device)
        for bucket in map(whole, buckets(batch, sizes)):
            strong = self._strength(batch, bucket).masked_fill(~bucket.mask, -torch.inf)
            # One vector at least is left for the others.
            count = (bucket.sizes * self.dominant).round().long().clamp_max(bucket.sizes - 1)
            found, share = _assign(bucket, largest(strong, count), bucket.sizes - count)
            scatter(bucket, found, labels)
            scatter(bucket, share, shares)
        return Groups(labels, shares)

    def _strength(self, batch: Ragged, bucket: Bucket) -> Tensor:
        if self.by == "importance":
            return bucket.take(self._wants(batch, "importance"))
        tokens = bucket.tokens
        mean = torch.nn.functional.normalize(tokens.double().sum(1), dim=1).float()
        return torch.bmm(tokens, on_grid(mean)[:, :, None])[:, :, 0]


def _assign(bucket: Bucket, strong: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the group of every token [b, l], named by a place, and how much it counts there.

    strong [b, l] the tokens that stay; count [b] how many of the others are targets
    """
    others = bucket.mask & ~strong
    place = others.long().cumsum(1) - 1
    total = others.sum(1, keepdim=True)
    number = (place * count[:, None] + total - 1) // total.clamp_min(1)
    target = others & (number * total // count[:, None] == place)
    most = int(count.max())
    seats = (~target).long().argsort(dim=1, stable=True)[:, :most]
    tokens = bucket.tokens
    products = torch.bmm(tokens, gather(tokens, seats).transpose(1, 2))
    there = torch.arange(most, device=count.device) < count[:, None]
    nearest = seats.gather(1, products.masked_fill_(~there[:, None], NEVER).argmax(2))
    every = torch.arange(strong.shape[1], device=count.device).expand_as(strong)
    labels = torch.where(others & ~target, nearest, every)
    guests = torch.zeros_like(tokens[:, :, 0]).scatter_add_(1, labels, (others & ~target).float())
    share = torch.where(others & ~target, 1 / guests.gather(1, labels).clamp_min(1), 1.0)
    return labels, share
