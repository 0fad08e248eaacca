"""Exact duplicates: the one prune that no query can notice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Reduced, Reducer, merge
from colreduce.reduce.positions import scramble


@dataclass(frozen=True, kw_only=True)
class Dedupe(Reducer):
    """Keep one of several identical vectors of a document.

    No MaxSim score changes: this is the only lossless way to drop vectors. The one that is kept
    counts for all of them in reducers that look at weights. Vectors are identical when every
    number is; text encoders rarely write such vectors, blank page areas and repeated templates do.
    """

    name = "dedupe"
    when = "First of all reducers, always: it costs nothing."

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        labels = same_vector(batch)
        leads = batch.positions == labels
        # Only the first of each group counts in its mean, so that it is carried over bit for bit.
        return merge(batch, Groups(labels, leads.float()), renormalise=False)


def same_vector(batch: Ragged) -> Tensor:
    """Return for every token the position of the first one in its document with its vector: [t]."""
    fingerprints = _fingerprints(batch)
    rows = torch.arange(len(fingerprints), device=batch.device)
    leads = rows.clone()
    open_rows = rows
    while len(open_rows):
        # Rows of one fingerprint go to the first of them if their vectors are equal indeed; the
        # others share a fingerprint by accident and are looked at again among themselves.
        unique, group = torch.unique(fingerprints[open_rows], return_inverse=True)
        first = torch.full_like(unique, len(rows)).scatter_reduce_(0, group, open_rows, "amin")
        lead = first[group]
        equal = (batch.tokens[open_rows] == batch.tokens[lead]).all(1)
        equal &= batch.item_of[open_rows] == batch.item_of[lead]
        leads[open_rows[equal]] = lead[equal]
        open_rows = open_rows[~equal]
    return batch.positions[leads]


def _fingerprints(batch: Ragged) -> Tensor:
    """Return a number per token [t] that identical vectors of one document share."""
    # Adding zero turns -0.0 into 0.0, which compares equal to it but has other bits.
    bits = (batch.tokens.float() + 0.0).view(torch.int32)
    mixers = scramble(torch.arange(batch.dim, device=batch.device)) | 1
    sums = scramble(batch.item_of)
    for start in range(0, batch.dim, 16):
        some = slice(start, start + 16)
        sums += (bits[:, some].long() * mixers[some]).sum(1)
    return sums
