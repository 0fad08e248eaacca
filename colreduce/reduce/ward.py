"""Ward's hierarchical clustering of the tokens of each document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.native import label_each


@dataclass(frozen=True, kw_only=True)
class Ward(Merger):
    """Merge the two groups whose union spreads least, until few enough are left.

    ``mode`` says what Ward's method is given. ``vectors`` is the method as it was meant.
    ``condensed`` (cosine distances as if they were Euclidean) and ``rows`` (each token's row of
    the distance matrix as a point) give the groups that other tools give.
    """

    name = "ward"
    paper = "Clavié et al. 2024, arXiv 2409.14683"
    when = "The first choice at factors up to 16, where a document has some hundreds of tokens."
    mode: str = parameter(
        "vectors",
        "vectors, condensed (sentence-transformers, PyLate) or rows (colpali-engine)",
        choices=("vectors", "condensed", "rows"),
    )

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Cut each document's tree where ``sizes`` groups are left."""
        return Groups(
            label_each(batch, sizes, lambda vectors, size: _cut(vectors, size, self.mode))
        )


def _cut(vectors: NDArray[np.float32], size: int, mode: str) -> NDArray[np.int64]:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if mode == "vectors":
        tree = linkage(vectors, method="ward")
    else:
        distances = np.clip(1 - vectors @ vectors.T, 0, 2)
        np.fill_diagonal(distances, 0)
        points = squareform(distances, checks=False) if mode == "condensed" else distances
        tree = linkage(points, method="ward")
    return np.asarray(fcluster(tree, t=size, criterion="maxclust"), dtype=np.int64) - 1
