"""k-medoids: clusters whose centre is one of their own tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import TOKEN_FIELDS, Ragged
from colreduce.reduce.base import Selector
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.positions import Stride
from colreduce.reduce.products import centrality, products
from colreduce.reduce.spread import grow

SAME = 1e-6  # sums of cosines that differ by less are equal


@dataclass(frozen=True, kw_only=True)
class Medoids(Selector):
    """Cluster the tokens, and keep the one in the middle of each cluster.

    Starts with the token least like its document and then the ones farthest from those chosen, so
    that nothing is drawn at random. ``segments`` cuts the document into runs of neighbours that
    are clustered apart.
    """

    name = "medoids"
    paper = "CenterCLIP, arXiv 2205.00823"
    when = "Where the kept vectors must be real tokens; a merger keeps more at the same size."
    iterations: int = parameter(10, "how often the medoids may move", low=0)
    segments: int = parameter(1, "runs of neighbours that are clustered apart", low=1)

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Choose in every bucket."""
        if self.segments > 1:
            batch, sizes = in_segments(batch, sizes, self.segments)
        chosen = torch.zeros(len(batch.tokens), dtype=torch.bool, device=batch.device)
        for bucket in buckets(batch, sizes):
            scatter(bucket, self._choose(bucket), chosen)
        return chosen

    def _choose(self, bucket: Bucket) -> Tensor:
        chosen = farthest_first(bucket)
        for _ in range(self.iterations):
            moved = _move(bucket, chosen)
            if torch.equal(moved, chosen):
                break
            chosen = moved
        return chosen


def in_segments(batch: Ragged, sizes: Tensor, segments: int) -> tuple[Ragged, Tensor]:
    """Return the documents cut into runs of neighbours as items of their own, and their sizes.

    A run may keep as many vectors as a choice at equal distances has in it, so that the sizes of
    the runs add up to that of the document. Documents are cut into no more runs than they keep
    vectors, and none into an empty run.
    """
    items = batch.item_of
    runs = torch.minimum(sizes, torch.full_like(sizes, segments))
    run = batch.positions * runs[items] // batch.lengths[items]
    keys = items * segments + run
    picks = Stride().pick(batch, sizes, {})
    held = torch.zeros(len(batch) * segments, dtype=torch.int64, device=batch.device)
    counts = held.index_add(0, keys, torch.ones_like(keys))
    wanted = held.index_add(0, keys, picks.long())
    fields = {name: getattr(batch, name) for name in TOKEN_FIELDS}
    return Ragged(batch.tokens, counts[counts > 0], **fields), wanted[counts > 0]


def farthest_first(bucket: Bucket) -> Tensor:
    """Mark the tokens to start from: the least central one, then always the farthest: [b, l]."""
    every = torch.arange(len(bucket.sizes), device=bucket.sizes.device)
    wide = bucket.tokens.double()
    nearest = torch.full_like(bucket.tokens[:, :, 0], -torch.inf)

    def gains(last: Tensor) -> Tensor:
        cosine = torch.bmm(wide, wide[every, last][:, :, None])[:, :, 0].float()
        return -torch.maximum(nearest, cosine, out=nearest)

    first = centrality(bucket).masked_fill(~bucket.mask, torch.inf).argmin(1)
    return grow(bucket, first, gains)


def _move(bucket: Bucket, chosen: Tensor) -> Tensor:
    """Give tokens to the nearest medoid, then each cluster to its most central token: [b, l]."""
    count, longest, dim = bucket.tokens.shape
    seats = chosen.long().argsort(dim=1, descending=True, stable=True)[:, : bucket.most]
    empty = torch.arange(bucket.most, device=chosen.device) >= bucket.sizes[:, None]
    medoids = bucket.tokens.gather(1, seats[:, :, None].expand(-1, -1, dim))
    table = products(bucket.tokens, medoids).masked_fill_(empty[:, None], -torch.inf)
    label = table.argmax(2)
    # A medoid leads its own cluster even when another medoid has the same vector.
    seat_of = (chosen.long().cumsum(1) - 1).clamp_min(0)
    label = torch.where(chosen, seat_of, label)
    flat = label + torch.arange(count, device=label.device)[:, None] * bucket.most
    sums = torch.zeros(count * bucket.most, dim, dtype=torch.float64, device=label.device)
    sums.index_add_(0, flat[bucket.mask], bucket.tokens[bucket.mask].double())
    score = torch.full((count, longest), -torch.inf, device=label.device)
    own = sums[flat[bucket.mask]]
    score[bucket.mask] = (bucket.tokens[bucket.mask].double() * own).sum(1).float()
    best = torch.full((count, bucket.most), -torch.inf, device=label.device)
    best.scatter_reduce_(1, label, score, "amax")
    # The medoid moves only to a token that is better, so that equals never take turns.
    stays = chosen & (score >= best.gather(1, label) - SAME)
    kept = torch.zeros_like(best, dtype=torch.int64).scatter_reduce_(1, label, stays.long(), "amax")
    rivals = bucket.mask & (score == best.gather(1, label)) & (kept.gather(1, label) == 0)
    place = torch.arange(longest, device=label.device).expand(count, -1)
    first = torch.full_like(best, longest, dtype=torch.int64)
    first.scatter_reduce_(1, label, torch.where(rivals, place, longest), "amin")
    moved = stays | (rivals & (place == first.gather(1, label)))
    return moved & (bucket.sizes > 0)[:, None]
