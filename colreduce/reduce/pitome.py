"""PiToMe: only tokens that have many others near them are merged."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.bipartite import NEVER, Step, merge_in_passes
from colreduce.reduce.buckets import buckets, scatter
from colreduce.reduce.whole import LONGEST, whole_weights


@dataclass(frozen=True, kw_only=True)
class PiToMe(Merger):
    """Merge tokens that stand in crowds, and leave those that stand alone.

    A token's energy is high if many others are near it. In every pass the tokens of the highest
    energy are split into two halves, and each token of one half moves into the nearest of the
    other.
    """

    name = "pitome"
    paper = "PiToMe, arXiv 2405.16148"
    when = "Where rare tokens matter and much of the document repeats itself."
    margin: float | None = parameter(
        None, "cosine above which tokens are near; the document's mean cosine if not given", low=-1
    )
    pace: float = parameter(
        0.25, "the largest share of the vectors that goes in one pass", above=0, high=0.5
    )

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Merge in passes until few enough are left."""
        pair = functools.partial(_pair, margin=self.margin)
        labels = torch.empty_like(batch.positions)
        for bucket in buckets(batch, sizes, square=True):
            weights = whole_weights(bucket, batch.weights)
            scatter(bucket, merge_in_passes(bucket, weights, self.pace, pair), labels)
        return Groups(labels)


def _pair(step: Step, margin: float | None) -> tuple[Tensor, Tensor]:
    """Split the tokens of the highest energy in two; the first, third, ... go."""
    there = step.there
    products = torch.bmm(step.tokens, step.tokens.transpose(1, 2))
    rank = _energies(step, products, margin).argsort(dim=1, descending=True, stable=True)
    rank = rank.argsort(dim=1)
    crowded = there & (rank < 2 * step.merges[:, None])
    goes, stays = crowded & (rank % 2 == 0), crowded & (rank % 2 == 1)
    return goes, products.masked_fill_(~stays[:, None], NEVER).argmax(2)


def _energies(step: Step, products: Tensor, margin: float | None) -> Tensor:
    """Return how crowded each token stands [b, l]: the mean of ELU(cosine - margin)."""
    there = step.there
    lengths = step.lengths[:, None].double()
    cosines = (products / LONGEST**2).double()
    if margin is None:
        sums = step.tokens.double().sum(1, keepdim=True) / LONGEST
        edge = (sums.square().sum(2) / lengths.square())[:, :, None]
    else:
        edge = torch.full((1, 1, 1), margin, dtype=torch.float64, device=products.device)
    near = torch.nn.functional.elu((cosines - edge).float()).double()
    energies = near.masked_fill_(~there[:, None], 0).sum(2) / lengths
    return energies.float().masked_fill_(~there, -torch.inf)
