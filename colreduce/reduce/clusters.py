"""Spherical k-means on padded documents, all documents of a bucket at once.

Tokens and centres are rounded to whole numbers (`colreduce.reduce.whole`), so that which centre is
nearest to a token depends neither on the batch nor on the route: native threads on a CPU, batched
products elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from colreduce.reduce.buckets import Bucket
from colreduce.reduce.native import compiled
from colreduce.reduce.whole import LONGEST, multiply, on_grid, quickest_type
from colreduce.threads import share_out

# Below every product, for what must not be chosen.
NEVER = -(2.0**25)


def cluster(
    bucket: Bucket,
    seeds: Tensor,
    weights: Tensor | None,
    *,
    iterations: int,
    real: bool = False,
) -> Tensor:
    """Return the number of the centre that every token belongs to: [b, l] int64.

    bucket           documents rounded by `colreduce.reduce.whole.whole`
    seeds    [b, k]  int64, the tokens that the centres start from
    weights  [b, l]  int64, how much each token pulls at its centre; None for all alike
    real     a centre is the token nearest to the mean in place of the mean itself

    Centres move ``iterations`` times, or until no token changes sides. Of equally near centres
    the first one is taken. A centre that is left without tokens takes the one that is worst served
    by its own, from a group that has others.
    """
    if bucket.tokens.device.type == "cpu" and compiled() is not None and not real:
        return _cluster_natively(bucket, seeds, weights, iterations)
    tokens = bucket.tokens
    centres = gather(tokens, seeds)
    labels = _assign(bucket, tokens, centres)
    for _ in range(iterations):
        centres = _means(bucket, tokens, labels, weights)
        if real:
            centres = gather(tokens, _nearest_member(bucket, tokens, labels, centres))
        moved = _assign(bucket, tokens, centres)
        if torch.equal(moved, labels):
            break
        labels = moved
    return labels


def _cluster_natively(
    bucket: Bucket, seeds: Tensor, weights: Tensor | None, iterations: int
) -> Tensor:
    """Do the same in native threads, document by document, with products of small numbers."""
    kernels = compiled()
    assert kernels is not None
    # Many small products are quicker in one call, although in single precision.
    few = seeds.shape[1] * bucket.mask.shape[1] <= 1 << 13
    small = bucket.tokens if few else bucket.tokens.to(quickest_type())
    centres = gather(small, seeds)
    products = torch.empty(*bucket.mask.shape, seeds.shape[1], dtype=torch.int32)
    labels = np.full(bucket.mask.shape, -1, dtype=np.int64)
    moved = np.empty(len(labels), dtype=np.bool_)
    lengths, sizes = bucket.mask.sum(1).numpy(), bucket.sizes.numpy()
    counts = np.empty((len(labels), 0), dtype=np.int64) if weights is None else weights.numpy()

    def run(start: int, end: int) -> None:
        part = slice(start, end)
        kernels.move_centres(
            products[part].numpy(),
            small[part].numpy(),
            counts[part],
            lengths[part],
            sizes[part],
            labels[part],
            centres[part].numpy(),
            moved[part],
        )

    for _ in range(iterations + 1):
        multiply(small, centres, products)
        share_out(len(labels), run)
        if not moved.any():
            break
    return torch.from_numpy(labels)


def medoids(bucket: Bucket, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the place of the token in the middle of each group: [b, k]."""
    means = _means(bucket, bucket.tokens, labels, weights)
    return _nearest_member(bucket, bucket.tokens, labels, means)


def gather(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens at ``places`` [b, k]: [b, k, d]."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def strided(bucket: Bucket) -> Tensor:
    """Return seeds at equal distances over each document: [b, k]."""
    lengths = bucket.mask.sum(1, keepdim=True)
    numbers = torch.arange(bucket.most, device=lengths.device)
    places = (2 * numbers + 1) * lengths // (2 * bucket.sizes[:, None])
    return torch.where(numbers < bucket.sizes[:, None], places, 0)


def farthest(bucket: Bucket) -> Tensor:
    """Return seeds that lie far apart: [b, k].

    The first is the token farthest from the mean, each of the others the one farthest from all
    seeds before it; of equally far ones the first.
    """
    tokens = bucket.tokens
    every = torch.arange(len(tokens), device=tokens.device)
    mean = torch.nn.functional.normalize(tokens.sum(1), dim=1)
    near = torch.bmm(tokens, on_grid(mean)[:, :, None])[:, :, 0]
    pick = near.masked_fill(~bucket.mask, -NEVER).argmin(1)
    seeds = [pick]
    near = torch.where(bucket.mask, NEVER, -NEVER)
    for _ in range(bucket.most - 1):
        near = torch.maximum(near, torch.bmm(tokens, tokens[every, pick][:, :, None])[:, :, 0])
        pick = near.masked_fill(~bucket.mask, -NEVER).argmin(1)
        seeds.append(pick)
    return torch.stack(seeds, dim=1)


def _assign(bucket: Bucket, tokens: Tensor, centres: Tensor) -> Tensor:
    """Give every token to the nearest centre, and every centre a token: [b, l]."""
    numbers = torch.arange(centres.shape[1], device=tokens.device)
    wanted = numbers < bucket.sizes[:, None]
    products = torch.bmm(tokens, centres.transpose(1, 2))
    if not bool(wanted.all()):
        products.masked_fill_(~wanted[:, None], NEVER)
    near, labels = products.max(2)
    counts = torch.zeros_like(wanted, dtype=torch.int64).scatter_add_(1, labels, bucket.mask.long())
    empty = wanted & (counts == 0)
    if bool(empty.any()):
        labels = _fill(bucket, labels, near, empty)
    return labels


def _fill(bucket: Bucket, labels: Tensor, near: Tensor, empty: Tensor) -> Tensor:
    """Give the centres without tokens the worst served ones; every group keeps its best."""
    best = torch.full(empty.shape, NEVER, device=near.device)
    best.scatter_reduce_(1, labels, near.masked_fill(~bucket.mask, NEVER), "amax")
    places = torch.arange(labels.shape[1], device=near.device).expand_as(labels)
    leads = bucket.mask & (near == best.gather(1, labels))
    lead = torch.full_like(empty, labels.shape[1], dtype=torch.int64)
    lead.scatter_reduce_(1, labels, torch.where(leads, places, labels.shape[1]), "amin")
    gives = bucket.mask & (places != lead.gather(1, labels))
    worst = near.masked_fill(~gives, -NEVER).argsort(dim=1, stable=True)
    most = int(empty.sum(1).max())
    takers = (~empty).long().argsort(dim=1, stable=True)[:, :most]  # empty ones first
    worst = worst[:, :most]
    taking = torch.arange(most, device=near.device) < empty.sum(1, keepdim=True)
    return labels.scatter(1, worst, torch.where(taking, takers, labels.gather(1, worst)))


def _means(bucket: Bucket, tokens: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the directions of the groups' means, rounded to 8 bits: [b, k, d] float32.

    The largest coordinate of all centres of a document becomes 127.
    """
    count, _, dim = tokens.shape
    wide = tokens.double()
    if weights is not None:
        wide = wide * weights[:, :, None]
    numbers = labels + torch.arange(count, device=labels.device)[:, None] * bucket.most
    sums = wide.new_zeros(count * bucket.most, dim)
    sums.index_add_(0, numbers.flatten(), wide.reshape(-1, dim))
    sums = sums.view(count, bucket.most, dim)
    norms = sums.square().sum(2, keepdim=True).sqrt().clamp_min(1)
    largest = (sums.abs().amax(2, keepdim=True) / norms).amax(1, keepdim=True).clamp_min(1e-6)
    return (sums * ((127 / largest).clamp_max(LONGEST) / norms)).round_().float()


def _nearest_member(bucket: Bucket, tokens: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Return the token of each group that is nearest to its centre: [b, k], 0 for no group."""
    own = gather(centres, labels)
    near = (tokens * own).sum(2).masked_fill_(~bucket.mask, NEVER)
    best = torch.full(centres.shape[:2], NEVER, device=tokens.device)
    best.scatter_reduce_(1, labels, near, "amax")
    places = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    leads = bucket.mask & (near == best.gather(1, labels))
    lead = torch.full(best.shape, labels.shape[1], dtype=torch.int64, device=labels.device)
    lead.scatter_reduce_(1, labels, torch.where(leads, places, labels.shape[1]), "amin")
    return torch.where(lead < labels.shape[1], lead, 0)


# Where centres start.
STARTS: dict[str, Callable[[Bucket], Tensor]] = {"stride": strided, "farthest": farthest}
