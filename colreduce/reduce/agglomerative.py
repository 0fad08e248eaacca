"""Hierarchical clustering with linkages other than Ward's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.trees import cluster_trees


@dataclass(frozen=True, kw_only=True)
class Agglomerative(Merger):
    """Merge the two nearest groups, until few enough are left.

    ``linkage`` says how near two groups are: by the mean cosine of their tokens (average), by the
    two tokens that are farthest apart (complete: no token is far from any other of its group) or
    by the two nearest ones (single: groups may grow into long chains).
    """

    name = "agglomerative"
    paper = "Agglomerative Token Clustering, arXiv 2409.11923"
    when = "complete bounds how far a token may be from its vector; else ward is better."
    linkage: str = parameter(
        "average", "average, complete or single", choices=("average", "complete", "single")
    )

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Cut each document's tree where ``sizes`` groups are left."""
        return Groups(cluster_trees(batch, sizes, self.linkage))
