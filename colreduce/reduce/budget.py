"""Budgets that look at what a document loses: how many vectors to leave of each.

The loss of a token is 1 - cosine to the nearest vector that is left of its document. Any reducer
can be asked: it is run at several sizes, for all documents of the batch at once, and what is left
is compared with what was there. No document looks at another one.

What the loss means for a search: if every token has a vector left at cosine 1 - e or more, then no
query vector of unit length loses more than the square root of 2 e.

What this module does not do: choose which vectors stay (the reducers do), or the budgets that
follow from the length alone (`colreduce.reduce.base.Budgeted.sizes`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from colreduce.ragged import Ragged
from colreduce.reduce.buckets import Bucket, buckets, scatter

# Documents and how many vectors to leave of each -> what is left of them.
Trial: TypeAlias = Callable[[Ragged, Tensor], Ragged]

ROUNDING = 1e-6  # a loss below this is a vector that was kept
SAMPLE = 1024  # documents whose curves decide about the price
HIGHEST_PRICE = 1e6
LOWEST_PRICE = 1e-9


def losses(batch: Ragged, left: Ragged, kind: str) -> Tensor:
    """Return the loss of each document [n] float64.

    kind  mean: of its tokens, by their weights; sum: over them; worst: the largest
    """
    lost = torch.zeros(len(batch.tokens), dtype=torch.float64, device=batch.device)
    for bucket in buckets(batch, left.lengths):
        scatter(bucket, _token_losses(bucket, batch, left), lost)
    lost = torch.where(lost < ROUNDING, 0.0, lost)
    found = torch.zeros(len(batch), dtype=torch.float64, device=batch.device)
    if kind == "worst":
        return found.scatter_reduce_(0, batch.item_of, lost, "amax")
    weights = torch.ones_like(lost) if batch.weights is None else batch.weights.double()
    found.index_add_(0, batch.item_of, lost * weights)
    if kind == "sum":
        return found
    return found / torch.zeros_like(found).index_add_(0, batch.item_of, weights)


def _token_losses(bucket: Bucket, batch: Ragged, left: Ragged) -> Tensor:
    """Return 1 - cosine to the nearest vector left, for every token of a bucket: [b, l]."""
    items = batch.item_of[bucket.rows[:, 0]]
    places = torch.arange(bucket.most, device=batch.device)
    there = places < bucket.sizes[:, None]
    rows = torch.where(there, left.offsets[:-1][items][:, None] + places, 0)
    vectors = torch.nn.functional.normalize(left.tokens[rows].float(), dim=2)
    cosines = torch.bmm(bucket.tokens, vectors.transpose(1, 2))
    return 1 - cosines.masked_fill_(~there[:, None], -1).amax(2)


def smallest_within(trial: Trial, batch: Ragged, bound: float, kind: str, protect: int) -> Tensor:
    """Return for each document a size at which its loss is at most ``bound``: [n].

    Found by bisection: the size returned meets the bound, and one vector less was tried and did
    not. For methods whose loss falls with every vector added (all greedy selectors) that is the
    smallest size there is; for others a smaller one may exist.
    """
    high = batch.lengths.clone()  # all vectors: nothing is lost
    low = torch.minimum(high - 1, torch.full_like(high, protect))  # too few, tried or by definition
    while True:
        active = torch.nonzero(high - low > 1).flatten()
        if not len(active):
            return high
        some = batch.take(active)
        middle = (low[active] + high[active]) // 2
        within = losses(some, trial(some, middle), kind) <= bound
        high[active] = torch.where(within, middle, high[active])
        low[active] = torch.where(within, low[active], middle)


def find_price(trial: Trial, sample: Ragged, average: float, protect: int, seed: int) -> Tensor:
    """Return the price of a vector at which documents of the sample keep ``average`` vectors.

    Every document buys vectors as long as one more takes away more loss than it costs. The
    higher the price the fewer are bought, so the price is found by bisection.
    """
    if len(sample) > SAMPLE:
        draw = torch.randperm(len(sample), generator=torch.Generator().manual_seed(seed))
        sample = sample.take(draw[:SAMPLE].sort().values.to(sample.device))
    sizes, lost = _curves(trial, sample, protect)
    low, high = LOWEST_PRICE, HIGHEST_PRICE
    for _ in range(100):
        price = (low * high) ** 0.5
        left = float(_best_sizes(sizes, lost, price).double().mean())
        low, high = (low, price) if left <= average else (price, high)
    return torch.tensor([high], dtype=torch.float64)


def cheapest(trial: Trial, batch: Ragged, price: Tensor, protect: int) -> Tensor:
    """Return for each document the size at which loss and price of its vectors cost least: [n]."""
    sizes, lost = _curves(trial, batch, protect, float(price))
    return _best_sizes(sizes, lost, float(price))


def _curves(trial: Trial, batch: Ragged, protect: int, price: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return sizes 1, 2, 4, ... and all, beside the protected vectors, and the loss at each.

    A document is not tried at sizes whose price alone is more than what it would pay at one that
    was tried already; those sizes are given as the last one tried.

    sizes [n, k] int64, clamped to the length, where the loss is 0; lost [n, k] float64
    """
    longest = int(batch.lengths.max())
    steps = [protect + (1 << power) for power in range(longest.bit_length())]
    sizes = torch.tensor([*steps, longest + protect], device=batch.device)
    sizes = torch.minimum(sizes[None], batch.lengths[:, None])
    lost = torch.zeros(sizes.shape, dtype=torch.float64, device=batch.device)
    least = torch.full_like(lost[:, 0], torch.inf)
    for column in range(sizes.shape[1]):
        if column:
            settled = price * sizes[:, column - 1] >= least
            sizes[settled, column] = sizes[settled, column - 1]
            lost[settled, column] = lost[settled, column - 1]
        else:
            settled = torch.zeros_like(least, dtype=torch.bool)
        tried = torch.nonzero(~settled & (sizes[:, column] < batch.lengths)).flatten()
        if len(tried):
            some = batch.take(tried)
            lost[tried, column] = losses(some, trial(some, sizes[tried, column]), "sum")
        least = torch.minimum(least, lost[:, column] + price * sizes[:, column])
    return sizes, lost


def _best_sizes(sizes: Tensor, lost: Tensor, price: float) -> Tensor:
    """Return the sizes [n] at which loss + price x size is least; of equal ones the smallest.

    Between two sizes that were tried the loss is taken to fall evenly with the size's logarithm.
    """
    small, large = sizes[:, :-1], sizes[:, 1:]
    before, after = lost[:, :-1], lost[:, 1:]
    span = torch.log(large.double() / small.double())
    slope = torch.where(span > 0, (before - after) / span.clamp_min(1e-12), 0.0)
    turn = torch.minimum((slope / price).clamp_min(0), large.double()).floor().long()
    inside = torch.cat([_clamp(turn + one, small, large) for one in (0, 1)], dim=1)
    start, fall, level = (part.repeat(1, 2) for part in (small.double(), slope, before))
    between = level - fall * torch.log(inside.double() / start)
    candidates = torch.cat([sizes, inside], dim=1)
    costs = torch.cat([lost, between], dim=1) + price * candidates.double()
    least = costs.amin(1, keepdim=True)
    return torch.where(costs <= least + 1e-12, candidates, candidates.amax()).amin(1)


def _clamp(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(values, low), high)
