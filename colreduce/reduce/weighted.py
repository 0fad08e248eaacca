"""Token Pooling: k-means and k-medoids in which some tokens count for more than others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups
from colreduce.reduce.buckets import Bucket, buckets, scatter
from colreduce.reduce.clusters import STARTS, cluster, medoids
from colreduce.reduce.weighing import Weighing
from colreduce.reduce.whole import whole, whole_weights


@dataclass(frozen=True, kw_only=True)
class WeightedKMeans(Weighing):
    """k-means in which rare or important tokens pull at the centres, and count in the means.

    A word that every document holds moves a vector less than one that only this document holds.
    """

    name = "weighted_kmeans"
    paper = "Token Pooling, arXiv 2110.03860"
    when = "Where common words would blur the means: long texts with token numbers."
    iterations: int = parameter(4, "how often the centres are moved at most", low=0)
    start: str = parameter(
        "stride",
        "where centres start: stride (equal distances) or farthest (far from one another)",
        choices=tuple(STARTS),
    )

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Give every token the number of the centre nearest to it, and its weight."""
        weights = self.weigh(batch, state)
        labels = torch.empty_like(batch.positions)
        for bucket in map(whole, buckets(batch, sizes)):
            pulls = whole_weights(bucket, weights)
            seeds = STARTS[self.start](bucket)
            found = cluster(bucket, seeds, pulls, iterations=self.iterations)
            scatter(bucket, found, labels)
        return Groups(labels, weights)


@dataclass(frozen=True, kw_only=True)
class WeightedMedoids(Weighing):
    """k-medoids in which rare or important tokens pull at the centres.

    A group is replaced by the real token in its middle, and not by a mean; unlike a selector it
    says which tokens each vector stands for.
    """

    name = "weighted_medoids"
    paper = "Token Pooling, arXiv 2110.03860"
    when = "Where vectors must be real tokens, and must say whom they stand for."
    iterations: int = parameter(4, "how often the medoids are moved at most", low=0)
    start: str = parameter(
        "stride",
        "where medoids start: stride (equal distances) or farthest (far from one another)",
        choices=tuple(STARTS),
    )

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Give every token the number of its medoid; only the medoids count."""
        weights = self.weigh(batch, state)
        labels = torch.empty_like(batch.positions)
        shares = torch.zeros(len(batch.tokens), device=batch.device)
        for bucket in map(whole, buckets(batch, sizes)):
            pulls = whole_weights(bucket, weights)
            seeds = STARTS[self.start](bucket)
            found = cluster(bucket, seeds, pulls, iterations=self.iterations, real=True)
            scatter(bucket, found, labels)
            scatter(bucket, _marked(bucket, medoids(bucket, found, pulls)), shares)
        return Groups(labels, shares)


def _marked(bucket: Bucket, places: Tensor) -> Tensor:
    """Mark the medoids' places [b, k] among the tokens: [b, l]."""
    numbers = torch.arange(bucket.most, device=places.device)
    wanted = (numbers < bucket.sizes[:, None]).float()
    return torch.zeros_like(bucket.mask, dtype=torch.float32).scatter_add_(1, places, wanted)
