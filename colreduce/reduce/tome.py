"""Token Merging: every second token may move into its nearest neighbour among the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.bipartite import NEVER, Step, largest, merge_in_passes
from colreduce.reduce.buckets import buckets, scatter
from colreduce.reduce.whole import whole_weights


@dataclass(frozen=True, kw_only=True)
class ToMe(Merger):
    """Pair every second token with its nearest among the rest, and merge the nearest pairs.

    A few passes, each of which may halve the document. Quick on an accelerator; which tokens may
    meet depends on whether they stand at even or odd places.
    """

    name = "tome"
    paper = "Token Merging, arXiv 2210.09461"
    when = "For comparison with vision models that use it; kmeans costs the same and is better."

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Merge in passes until few enough are left."""
        labels = torch.empty_like(batch.positions)
        for bucket in buckets(batch, sizes):
            weights = whole_weights(bucket, batch.weights)
            scatter(bucket, merge_in_passes(bucket, weights, 0.5, _pair), labels)
        return Groups(labels)


def _pair(step: Step) -> tuple[Tensor, Tensor]:
    """Send tokens at even places to the nearest one at an odd place; the nearest pairs go."""
    there = step.there
    even, odd = step.tokens[:, 0::2], step.tokens[:, 1::2]
    products = torch.bmm(even, odd.transpose(1, 2))
    products.masked_fill_(~there[:, None, 1::2], NEVER)
    near, partner = products.max(2)
    near = near.masked_fill(~there[:, 0::2], NEVER)
    goes = torch.zeros_like(there)
    goes[:, 0::2] = largest(near, step.merges)
    into = torch.zeros_like(there, dtype=torch.int64)
    into[:, 0::2] = 2 * partner + 1
    return goes, into
