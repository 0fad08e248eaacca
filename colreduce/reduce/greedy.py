"""Greedy facility location: pick the tokens that a document's tokens find nearest.

Each turn picks the token that adds most to the sum, over all tokens of the document, of the
cosine to the nearest picked one. That sum is the MaxSim of the document against its picks. It is
submodular, so picking greedily comes within 1 - 1/e of the best choice there is.

Products of tokens are whole numbers (`colreduce.reduce.whole`), so that gains which are kept up to
date agree with gains computed anew, and a document's picks do not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colreduce.device import has_triton
from colreduce.ragged import Ragged
from colreduce.reduce.buckets import Bucket, each_bucket, scatter
from colreduce.reduce.native import compiled
from colreduce.reduce.whole import Room, whole_products, whole_weights
from colreduce.threads import share_out

NEVER = -1


@dataclass(frozen=True, slots=True)
class Seats:
    """The tokens that were picked, and which of them stands for each token.

    turn   [t] int64, the turn in which the token was picked, from 0; -1 for never
    owner  [t] int64, the turn in which the pick nearest to the token was made; of equally near
           ones the first. A token that was picked has itself.
    """

    turn: Tensor
    owner: Tensor


def facility_location(batch: Ragged, sizes: Tensor) -> Tensor:
    """Pick ``sizes`` [n] tokens of each document; return the turn of each token, -1 for never.

    ``weights`` say how much each token counts. Of tokens that add equally much the first one is
    picked. Picks of a smaller size are the first picks of a larger one.
    """
    return seats(batch, sizes).turn


def seats(batch: Ragged, sizes: Tensor) -> Seats:
    """Pick tokens as `facility_location` does, and say which pick is nearest to each token."""
    turn = torch.full_like(batch.positions, NEVER)
    owner = torch.full_like(batch.positions, NEVER)
    pick = _pick_for(batch)
    room = Room()

    def seat(bucket: Bucket) -> None:
        weights = whole_weights(bucket, batch.weights)
        found = pick(whole_products(bucket, room), bucket, weights)
        scatter(bucket, found.turn, turn)
        scatter(bucket, found.owner, owner)

    each_bucket(batch, sizes, seat, square=True)
    return Seats(turn, owner)


def _pick_for(batch: Ragged) -> Callable[[Tensor, Bucket, Tensor | None], Seats]:
    """Return what picks quickest where the documents are."""
    if batch.device.type == "cpu":
        return _stepwise if compiled() is None else _native
    return _on_device if has_triton() else _stepwise


def _on_device(table: Tensor, bucket: Bucket, weights: Tensor | None) -> Seats:
    """Pick for each document in a program of its own."""
    from colreduce.reduce import triton_greedy

    if table.shape[1] > triton_greedy.LONGEST:
        return _stepwise(table, bucket, weights)
    counts = bucket.mask.long() if weights is None else weights
    nothing = _nothing(table)[:, 0].contiguous()
    lengths = bucket.mask.sum(1)
    return Seats(
        *triton_greedy.facility_location(
            table, nothing, counts.contiguous(), lengths, bucket.sizes.contiguous()
        )
    )


def _stepwise(table: Tensor, bucket: Bucket, weights: Tensor | None) -> Seats:
    """Pick for all documents of the bucket at once, keeping every gain up to date.

    Only the tokens that a pick brought nearer can change the gains of the others; there are few
    of them after the first turns.
    """
    every = torch.arange(len(table), device=table.device)
    counts = bucket.mask.long() if weights is None else weights
    best = _nothing(table).expand(-1, table.shape[1])
    gains = ((table - best[:, None]) * counts[:, None]).sum(2)
    gains.masked_fill_(~bucket.mask, NEVER)
    turn = torch.full_like(bucket.rows, NEVER)
    owner = torch.full_like(bucket.rows, NEVER)
    for step in range(bucket.most):
        going = every[step < bucket.sizes]
        pick = gains[going].argmax(1)
        nearer = best.clone()
        nearer[going] = torch.maximum(best[going], table[going, pick])
        risen = (nearer > best) & bucket.mask
        owner[risen] = step
        owner[going, pick] = turn[going, pick] = step
        gains[going, pick] = NEVER
        count = int(risen.sum(1).max())
        if count:
            columns = (nearer - best).masked_fill_(~risen, 0).topk(count, dim=1).indices
            fall = _fall(table[every[:, None], columns], best, nearer, counts, columns)
            gains = torch.where(gains == NEVER, NEVER, gains - fall)
        best = nearer
    return Seats(turn, owner)


def _nothing(table: Tensor) -> Tensor:
    """Return what a token has while nothing is picked, which is as bad as can be: [b, 1] int32."""
    return -table.diagonal(dim1=1, dim2=2).amax(1, keepdim=True)


def _fall(worth: Tensor, best: Tensor, nearer: Tensor, counts: Tensor, columns: Tensor) -> Tensor:
    """Return how much less each candidate adds once tokens came nearer: [b, candidates].

    worth [b, columns, candidates]  the products of those tokens with every candidate
    """
    old, new = best.gather(1, columns)[:, :, None], nearer.gather(1, columns)[:, :, None]
    less = (worth - old).clamp_min_(0) - (worth - new).clamp_min_(0)
    return (less * counts.gather(1, columns)[:, :, None]).sum(1)


def _native(table: Tensor, bucket: Bucket, weights: Tensor | None) -> Seats:
    """Pick document by document in native threads, with gains kept up to date as in `_stepwise`."""
    kernels = compiled()
    assert kernels is not None
    turn = np.full(bucket.mask.shape, NEVER, dtype=np.int64)
    owner = np.full(bucket.mask.shape, NEVER, dtype=np.int64)
    tables, nothing = table.numpy(), _nothing(table).numpy()[:, 0]
    lengths, sizes = bucket.mask.sum(1).numpy(), bucket.sizes.numpy()
    counts = np.empty((len(lengths), 0), dtype=np.int64) if weights is None else weights.numpy()

    def run(start: int, end: int) -> None:
        part = slice(start, end)
        kernels.facility_location(
            tables[part],
            counts[part],
            nothing[part],
            lengths[part],
            sizes[part],
            turn[part],
            owner[part],
        )

    share_out(len(lengths), run)
    return Seats(torch.from_numpy(turn), torch.from_numpy(owner))
