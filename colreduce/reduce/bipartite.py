"""Merging in passes: some tokens of a document move into others, all at once, over and over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from colreduce.reduce.buckets import Bucket, padded
from colreduce.reduce.whole import on_grid

# Below every product, for what must not be chosen.
NEVER = -(2.0**25)


@dataclass(frozen=True, slots=True)
class Step:
    """What is left of some documents before a pass.

    tokens   [b, l, d] float32, directions of the vectors that are left, on the grid
    lengths  [b]       how many they are; the others are padding
    merges   [b]       how many of them must go in this pass
    """

    tokens: Tensor
    lengths: Tensor
    merges: Tensor

    @property
    def there(self) -> Tensor:
        """Mark the vectors that are no padding: [b, l]."""
        return (
            torch.arange(self.tokens.shape[1], device=self.lengths.device) < self.lengths[:, None]
        )


# Says which vectors go [b, l] bool, `Step.merges` of them, and into which slot [b, l] int64.
Pairing: TypeAlias = Callable[[Step], tuple[Tensor, Tensor]]


def merge_in_passes(bucket: Bucket, weights: Tensor | None, pace: float, pair: Pairing) -> Tensor:
    """Merge until every document has its size; return the group of each token: [b, l].

    weights  [b, l] int64, how much each token counts in the vectors that are compared
    pace     the largest share of a document's vectors that goes in one pass
    """
    counts = bucket.mask.long() if weights is None else weights
    sums = on_grid(bucket.tokens).double() * counts[:, :, None]
    labels = torch.arange(sums.shape[1], device=sums.device).expand(len(sums), -1)
    lengths = bucket.mask.sum(1)
    while True:
        most = (lengths * pace).floor().long().clamp_min(1)
        merges = torch.minimum((lengths - bucket.sizes).clamp_min(0), most)
        if not bool(merges.any()):
            return labels.contiguous()
        tokens = on_grid(torch.nn.functional.normalize(sums, dim=2).float())
        goes, into = pair(Step(tokens, lengths, merges))
        place = (~goes).long().cumsum(1) - 1
        into = torch.where(goes, place.gather(1, into), place)
        lengths = lengths - merges
        length = min(padded(int(lengths.max())), sums.shape[1])
        moved = sums.new_zeros(sums.shape)
        moved.scatter_add_(1, into[:, :, None].expand_as(sums), sums)
        sums = moved[:, :length].contiguous()
        labels = into.gather(1, labels).clamp_max(length - 1)  # padding may point anywhere


def largest(values: Tensor, counts: Tensor) -> Tensor:
    """Mark the ``counts`` [b] largest of [b, l]; of equal ones the first."""
    order = values.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return rank < counts[:, None]
