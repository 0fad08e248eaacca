"""Spherical k-means on the tokens of each document."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.buckets import Bucket, each_bucket, scatter
from colreduce.reduce.clusters import STARTS, cluster
from colreduce.reduce.whole import whole, whole_weights


@dataclass(frozen=True, kw_only=True)
class KMeans(Merger):
    """Move centres to the mean of the tokens nearest to them, a few times over.

    Documents of like length are clustered together, so it is quick on long pages and on an
    accelerator. Nothing is drawn at random: centres start at equal distances over the document,
    or far apart from one another. ``size`` and ``keep`` give CRISP's fixed and relative numbers
    of vectors.
    """

    name = "kmeans"
    paper = "Veneroso et al. 2025 (CRISP), arXiv 2505.11471"
    when = "Many documents or long pages, where a tree of clusters takes too long."
    iterations: int = parameter(4, "how often the centres are moved at most", low=0)
    start: str = parameter(
        "stride",
        "where centres start: stride (equal distances) or farthest (far from one another)",
        choices=tuple(STARTS),
    )

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Give every token the number of the centre nearest to it."""
        labels = torch.empty_like(batch.positions)

        def move(some: Bucket) -> None:
            bucket = whole(some)
            weights = whole_weights(bucket, batch.weights)
            seeds = STARTS[self.start](bucket)
            found = cluster(bucket, seeds, weights, iterations=self.iterations)
            scatter(bucket, found, labels)

        each_bucket(batch, sizes, move)
        return Groups(labels)
