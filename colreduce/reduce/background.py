"""Patches that look alike become one vector: margins, blank areas, ruled lines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Reduced, Reducer, merge
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.whole import LONGEST, on_grid


@dataclass(frozen=True, kw_only=True)
class Background(Reducer):
    """Merge each patch into the first one that looks like it.

    The patches are asked in their order: one that no earlier patch has taken in takes in all those
    left whose cosine to it is at least 1 - ``within``, wherever on the page they are. So a page
    with much blank paper loses much and a full one little. Tokens that the encoder marks as
    special stay alone.
    """

    name = "background"
    when = (
        "As a first pass over pages, before a merger with a budget; it is cheap, and each page "
        "keeps as many vectors as it needs. ward(error=...) is slower and loses less."
    )
    within: float = parameter(
        0.1,
        "how far a patch may be from the one that takes it in, as 1 - cosine",
        low=0.001,
        high=1,
    )
    renormalise: bool = parameter(True, "scale the means back to unit length")

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        labels = batch.positions.clone()
        alone = batch.special
        for bucket in buckets(batch, batch.lengths, square=True):
            free = bucket.mask if alone is None else bucket.mask & ~alone[bucket.rows]
            scatter(bucket, self._owners(bucket, free), labels)
        return merge(batch, Groups(labels), renormalise=self.renormalise)

    def _owners(self, bucket: Bucket, free: Tensor) -> Tensor:
        """Return the place of the token that takes each token in: [b, l].

        free  [b, l] the tokens that may be taken in
        """
        grown = on_grid(bucket.tokens)
        near = torch.bmm(grown, grown.transpose(1, 2)) >= (1 - self.within) * LONGEST**2
        places = torch.arange(free.shape[1], device=free.device)
        owners = places.expand_as(free).clone()
        free = free.clone()
        for place in range(free.shape[1]):
            taken = near[:, place] & free & free[:, place, None]
            owners.masked_fill_(taken, place)
            free &= ~taken
        return owners
