"""Selectors that add one token at a time, each as unlike the ones before as can be."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.device import has_triton
from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Selector
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.products import centrality, cosines


def grow(bucket: Bucket, first: Tensor, gains: Callable[[Tensor], Tensor]) -> Tensor:
    """Choose tokens one after the other and return the mask of those chosen: [b, l].

    first [b]  the token that each document starts with
    gains      told the token chosen last [b], says what every token would add [b, l]; the largest
               one is taken, of equal ones the first
    """
    every = torch.arange(len(first), device=first.device)
    taken = ~bucket.mask
    order = [first]
    for _ in range(bucket.most - 1):
        taken[every, order[-1]] = True
        order.append(gains(order[-1]).masked_fill(taken, -torch.inf).argmax(1))
    picks = torch.stack(order, dim=1)
    wanted = torch.arange(bucket.most, device=first.device) < bucket.sizes[:, None]
    chosen = torch.zeros_like(bucket.mask)
    chosen[every[:, None].expand_as(picks)[wanted], picks[wanted]] = True
    return chosen


@dataclass(frozen=True, kw_only=True)
class Spread(Selector):
    """A selector that grows its choice token by token inside padded buckets."""

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Choose in every bucket."""
        chosen = torch.zeros(len(batch.tokens), dtype=torch.bool, device=batch.device)
        for bucket in buckets(batch, sizes, square=True):
            scatter(bucket, self.choose(batch, bucket), chosen)
        return chosen

    @abstractmethod
    def choose(self, batch: Ragged, bucket: Bucket) -> Tensor:
        """Mark the tokens to keep: [b, l]."""


def nearest_chosen(table: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that follows how near each token is to the nearest one chosen so far."""
    every = torch.arange(len(table), device=table.device)
    nearest = torch.full_like(table[:, 0], -torch.inf)

    def follow(last: Tensor) -> Tensor:
        return torch.maximum(nearest, table[every, last], out=nearest)

    return follow


def farthest(bucket: Bucket, table: Tensor, first: Tensor, own: Tensor, share: float) -> Tensor:
    """Grow by what each token is worth less a share of its nearness to those chosen: [b, l].

    table [b, l, l] cosines; first [b]; own [b, l] float64
    """
    if table.device.type != "cpu" and has_triton():
        from colreduce.reduce import triton_greedy

        if table.shape[1] <= triton_greedy.LONGEST:
            lengths, sizes = bucket.mask.sum(1), bucket.sizes.contiguous()
            return triton_greedy.spread(table, own, share, first, lengths, sizes)
    follow = nearest_chosen(table)
    return grow(bucket, first, lambda last: own - share * follow(last).double())


def _nothing(table: Tensor) -> Tensor:
    """Return what tokens are worth that are worth nothing by themselves: [b, l] float64."""
    return torch.zeros(table.shape[:2], dtype=torch.float64, device=table.device)


@dataclass(frozen=True, kw_only=True)
class KCenter(Spread):
    """Start in the middle and keep adding the token that is farthest from all that are kept.

    Makes the worst-served token as well served as it can be, and so likes outliers: put
    ``punctuation`` or ``stopwords`` before it. ``aim="sum"`` adds the token whose distances to
    those kept are greatest in sum.
    """

    name = "kcenter"
    paper = "ToDRE, arXiv 2505.18757"
    when = "Where rare tokens must survive; coverage is better on average."
    aim: str = parameter(
        "nearest", "distance to the nearest kept token, or sum", choices=("nearest", "sum")
    )

    def choose(self, batch: Ragged, bucket: Bucket) -> Tensor:
        """Grow from the token that is most like its document."""
        table = cosines(bucket)
        first = centrality(bucket).masked_fill(~bucket.mask, -torch.inf).argmax(1)
        if self.aim == "nearest":
            return farthest(bucket, table, first, _nothing(table), 1.0)
        every = torch.arange(len(table), device=table.device)
        sums = torch.zeros_like(table[:, 0], dtype=torch.float64)
        return grow(bucket, first, lambda last: -sums.add_(table[every, last]))


@dataclass(frozen=True, kw_only=True)
class MaxMin(Spread):
    """Keep tokens so that the two nearest of those kept are far apart.

    Starts with the token that is the least like any other, then adds the one farthest from all
    that are kept.
    """

    name = "maxmin"
    paper = "DivPrune, arXiv 2503.02175"
    when = "As kcenter; it starts at the edge of the document, not in its middle."

    def choose(self, batch: Ragged, bucket: Bucket) -> Tensor:
        """Grow from the loneliest token."""
        table = cosines(bucket)
        others = table.masked_fill(~bucket.mask[:, None], -torch.inf)
        others.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        first = others.amax(2).masked_fill(~bucket.mask, torch.inf).argmin(1)
        return farthest(bucket, table, first, _nothing(table), 1.0)


@dataclass(frozen=True, kw_only=True)
class Mmr(Spread):
    """Add the token that is worth most by itself and least like those already kept.

    ``worth`` says what a token is worth by itself: ``central`` is its cosine to the mean of the
    document, ``distinct`` is 1 minus that, ``importance`` is the encoder's weight as a share of
    the largest one.
    """

    name = "mmr"
    paper = "GreedyPrune, arXiv 2506.13166; Carbonell and Goldstein 1998"
    when = "With an encoder that says how important each token is."
    trade: float = parameter(0.5, "share of a token's own worth against its novelty", low=0, high=1)
    worth: str = parameter(
        "central", "central, distinct or importance", choices=("central", "distinct", "importance")
    )

    def choose(self, batch: Ragged, bucket: Bucket) -> Tensor:
        """Grow from the token of the greatest worth."""
        table = cosines(bucket)
        worth = self._worth(batch, bucket)
        first = worth.masked_fill(~bucket.mask, -torch.inf).argmax(1)
        return farthest(bucket, table, first, self.trade * worth, 1 - self.trade)

    def _worth(self, batch: Ragged, bucket: Bucket) -> Tensor:
        if self.worth == "importance":
            given = bucket.take(self._wants(batch, "importance")).double()
            return given / given.amax(1, keepdim=True).clamp_min(1e-12)
        mean = torch.nn.functional.normalize(bucket.tokens.double().sum(1), dim=1)
        cosine = torch.bmm(bucket.tokens.double(), mean[:, :, None])[:, :, 0].float().double()
        return cosine if self.worth == "central" else 1 - cosine
