"""Spectral clustering of the tokens of each document."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import TOKEN_FIELDS, Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.clusters import cluster, farthest
from colreduce.reduce.whole import whole, whole_weights


@dataclass(frozen=True, kw_only=True)
class Spectral(Merger):
    """Cluster the tokens as a graph: by the first eigenvectors of its Laplacian.

    Finds groups of any shape, where the other clusterings find round ones. Slow: the time grows
    with the third power of the tokens, so that long documents are cut into runs of neighbours
    that are clustered apart.
    """

    name = "spectral"
    paper = "CenterCLIP, arXiv 2205.00823"
    when = "For comparison; ward is quicker and at least as good on text and pages."
    sigma: float = parameter(2.0, "the distance at which tokens stop being neighbours", above=0)
    longest: int = parameter(512, "tokens that are clustered at once", low=8)
    iterations: int = parameter(10, "how often the centres are moved at most", low=0)

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Cluster the rows of each document's first eigenvectors."""
        runs, wanted, before = in_runs(batch, sizes, self.longest)
        labels = torch.empty_like(batch.positions)
        for bucket in buckets(runs, wanted, square=True):
            rows = whole(dataclasses.replace(bucket, tokens=eigenvectors(bucket, self.sigma)))
            weights = whole_weights(bucket, runs.weights)
            found = cluster(rows, farthest(rows), weights, iterations=self.iterations)
            scatter(bucket, found, labels)
        return Groups(labels + before[runs.item_of])


def in_runs(batch: Ragged, sizes: Tensor, longest: int) -> tuple[Ragged, Tensor, Tensor]:
    """Cut documents into runs of at most ``longest`` neighbours, as items of their own.

    Returns the runs, how many vectors each may leave, and how many the runs before it in its
    document leave. No run is left without a vector, so that a document that leaves very few is
    cut into longer runs.
    """
    counts = torch.minimum((batch.lengths + longest - 1) // longest, sizes)
    items = torch.repeat_interleave(torch.arange(len(batch), device=batch.device), counts)
    number = torch.arange(len(items), device=batch.device) - (counts.cumsum(0) - counts)[items]
    start, end = (
        (place * batch.lengths[items] + counts[items] - 1) // counts[items]
        for place in (number, number + 1)
    )
    before, after = (place * sizes[items] // counts[items] for place in (number, number + 1))
    fields = {name: getattr(batch, name) for name in TOKEN_FIELDS}
    lengths = end - start
    return Ragged(batch.tokens, lengths, **fields), torch.minimum(after - before, lengths), before


def eigenvectors(bucket: Bucket, sigma: float) -> Tensor:
    """Return the rows of each document's first eigenvectors, of unit length: [b, l, k].

    The graph joins all tokens, the nearer the more strongly: exp(-distance^2 / 2 sigma^2).
    """
    tokens = bucket.tokens.double()
    squared = (2 - 2 * torch.bmm(tokens, tokens.transpose(1, 2))).clamp_min_(0)
    both = bucket.mask[:, :, None] & bucket.mask[:, None]
    near = torch.exp(squared / (-2 * sigma**2)).masked_fill_(~both, 0)
    roots = near.sum(2).clamp_min(1e-12).rsqrt()
    graph = roots[:, :, None] * near * roots[:, None]
    # Padding stands apart from the document, with the lowest eigenvalue there can be.
    graph.diagonal(dim1=1, dim2=2).masked_fill_(~bucket.mask, -1)
    # On a processor whatever the device: a device decomposes them one by one, too, no faster, and
    # by another method for a batch than for one, with other vectors where eigenvalues are near.
    vectors = torch.linalg.eigh(graph.cpu()).eigenvectors.to(tokens.device)
    vectors = vectors.flip(2)[:, :, : bucket.most]
    wanted = torch.arange(bucket.most, device=tokens.device) < bucket.sizes[:, None]
    rows = vectors * (wanted[:, None] & bucket.mask[:, :, None])
    return torch.nn.functional.normalize(rows, dim=2).float()
