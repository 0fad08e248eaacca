"""Drop tokens that lie almost inside the hull of the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Budgeted, Selector
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.products import cosines

USED = 1e-9  # an atom with less weight is no part of the mixture
SAME = 2.0**-16  # distances that differ by less are equal, as those of two nearest tokens are
STEPS = 2  # steps towards the best mixture, for each neighbour that may take part


@dataclass(frozen=True, kw_only=True)
class Dominance(Selector):
    """Drop the tokens that are nearest to a mixture of the others.

    A token inside the hull of the others is never the best match of any query. On vectors of unit
    length no token but an exact duplicate is: every one of them sticks out. So this is not
    lossless. A token at distance e from a mixture of those kept costs a query vector of unit
    length at most e; a mixture whose own tokens are dropped later adds their distances.
    ``epsilon`` is a budget of its own: drop as long as there is a token at most so far out.
    """

    name = "dominance"
    paper = "after Zong and Piwowarski 2025, arXiv 2504.12778, whose exact form needs training"
    when = "For encoders trained for it. On others it shows how little is redundant."
    budgets = (*Budgeted.budgets, "epsilon")
    epsilon: float | None = parameter(
        None, "drop tokens at most so far from the others' hull", low=0
    )
    neighbours: int = parameter(8, "tokens that a mixture may be made of", low=1)

    def wanted(self, batch: Ragged, state: State) -> Tensor:
        """Return the budget; with ``epsilon``, the least that may be left."""
        if self.epsilon is None:
            return super().wanted(batch, state)
        return torch.minimum(batch.lengths, torch.full_like(batch.lengths, self.protect + 1))

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Choose in every bucket."""
        chosen = torch.zeros(len(batch.tokens), dtype=torch.bool, device=batch.device)
        limit = float("inf") if self.epsilon is None else self.epsilon
        for bucket in buckets(batch, sizes, square=True):
            scatter(bucket, self._choose(bucket, limit), chosen)
        return chosen

    def _choose(self, bucket: Bucket, limit: float) -> Tensor:
        """Drop in rounds; in one round no token goes that another one's mixture counts on."""
        table = cosines(bucket)
        table.diagonal(dim1=1, dim2=2).fill_(1)  # but for rounding it is
        alive = bucket.mask.clone()
        shape = (*alive.shape, min(self.neighbours, alive.shape[1] - 1))
        distance = torch.full(shape[:2], torch.inf, device=alive.device)
        atoms = torch.zeros(shape, dtype=torch.int64, device=alive.device)
        used = torch.zeros(shape, dtype=torch.bool, device=alive.device)
        stale = alive.clone()
        running = alive.sum(1) > bucket.sizes
        while bool(running.any()):
            which = torch.nonzero(stale & running[:, None], as_tuple=True)
            distance[which], atoms[which], used[which] = mixtures(table, alive, which, shape[2])
            rank = _ranks(distance)
            free = alive & running[:, None] & (distance <= limit)
            free &= _before_all_partners(rank, atoms, used)
            excess = alive.sum(1) - bucket.sizes
            goes = free & (_ranks(torch.where(free, rank, shape[1])) < excess[:, None])
            alive &= ~goes
            distance.masked_fill_(goes, torch.inf)
            # Whoever was mixed from a token that went needs a new mixture; the others keep theirs.
            lost = goes.gather(1, atoms.flatten(1)).view(shape) & used
            stale = lost.any(2) & alive
            used &= alive[:, :, None]
            running = running & goes.any(1) & (alive.sum(1) > bucket.sizes)
        return alive


def mixtures(
    table: Tensor, alive: Tensor, which: tuple[Tensor, ...], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far some tokens are from the hull of the ``count`` living ones nearest to them.

    table [b, l, l]  cosines; alive [b, l]; which: the documents [a] and tokens [a] asked for
    Returns the distances [a], the neighbours [a, k] and which of them make up the mixture. The
    distance is that of the mixture found, which is never less than the true one.
    """
    documents, tokens = which
    near = table[documents, tokens].masked_fill_(~alive[documents], -torch.inf)
    near.scatter_(1, tokens[:, None], -torch.inf)
    reach, atoms = _nearest(near, count)
    gram = table[documents[:, None, None], atoms[:, :, None], atoms[:, None, :]]
    there = torch.isfinite(reach)
    shares = torch.zeros_like(reach)
    shares[:, 0] = 1
    slope = gram[:, 0] - reach  # half the gradient of the squared distance, by share
    every = torch.arange(len(atoms), device=atoms.device)
    for _ in range(STEPS * count):
        low, best = slope.masked_fill(~there, torch.inf).min(1)
        high, worst = slope.masked_fill(shares <= 0, -torch.inf).max(1)
        turn = gram[every, best] - gram[every, worst]
        bend = (turn[every, best] - turn[every, worst]).clamp_min(USED)
        step = torch.minimum(((high - low) / bend).clamp_min(0), shares[every, worst])
        step = step.nan_to_num(0.0, posinf=0.0)
        shares[every, best] += step
        shares[every, worst] -= step
        slope = slope + step[:, None] * turn
    known = torch.where(there, reach, 0.0)
    squared = 1 + torch.where(there, shares * (slope - known), 0.0).sum(1)
    distance = (squared.clamp_min(0).sqrt() / SAME).round() * SAME
    return distance, atoms, there & (shares > USED)


def _nearest(near: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest of each row, and where they are."""
    if near.device.type == "cpu":
        return near.topk(count, dim=1)
    # A device's topk takes one of several equals or another, by how many rows there are.
    values, places = near.sort(dim=1, descending=True, stable=True)
    return values[:, :count], places[:, :count]


def _ranks(values: Tensor) -> Tensor:
    """Return the place of each number of a row [b, l] in ascending order; equals by position."""
    return values.argsort(dim=1, stable=True).argsort(dim=1)


def _before_all_partners(rank: Tensor, atoms: Tensor, used: Tensor) -> Tensor:
    """Mark the tokens [b, l] that rank before all they are mixed from, and all mixed from them."""
    rows, longest, count = atoms.shape
    flat = atoms.flatten(1)
    theirs = rank.gather(1, flat).view(rows, longest, count)
    first_atom = torch.where(used, theirs, longest).amin(2)
    mine = torch.where(used, rank[:, :, None].expand(-1, -1, count), longest)
    first_user = torch.full_like(rank, longest).scatter_reduce_(1, flat, mine.flatten(1), "amin")
    return (rank < first_atom) & (rank < first_user)
