"""Ward's hierarchical clustering of the tokens of each document."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.buckets import buckets, scatter
from colreduce.reduce.trees import cluster_trees, cut_trees


@dataclass(frozen=True, kw_only=True)
class Ward(Merger):
    """Merge the two groups whose union spreads least, until few enough are left.

    ``mode`` says what Ward's method is given. ``vectors`` is the method as it was meant.
    ``condensed`` (cosine distances as if they were Euclidean) and ``rows`` (each token's row of
    the distance matrix as a point) give the groups that other tools give; there, merges at equal
    distance are made together, so that fewer vectors than asked for may be left.
    """

    name = "ward"
    paper = "Clavié et al. 2024, arXiv 2409.14683"
    when = "The first choice at factors up to 16, where a document has some hundreds of tokens."
    mode: str = parameter(
        "vectors",
        "vectors, condensed (sentence-transformers, PyLate) or rows (colpali-engine)",
        choices=("vectors", "condensed", "rows"),
    )

    def sizes(self, lengths: Tensor) -> Tensor:
        """Return how many vectors are left; with other tools' modes, by their formula.

        They divide floating point numbers and round down, so that 11 by 1.1 is 9.
        """
        if self.mode == "vectors" or self.keep is not None or self.size is not None:
            return super().sizes(lengths)
        free = (lengths - self.protect).clamp_min(0)
        left = torch.floor_divide(free.double(), self.factor or 4.0).long().clamp_min(1)
        return torch.minimum(lengths, self.protect + torch.minimum(left, free))

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Cut each document's tree where ``sizes`` groups are left."""
        if self.mode == "vectors":
            return Groups(cluster_trees(batch, sizes, "ward"))
        labels = torch.empty(len(batch.tokens), dtype=torch.int64, device=batch.device)
        vectors = batch.tokens.detach().cpu().float()
        for bucket in buckets(batch, sizes, square=True):
            lengths, places = bucket.mask.sum(1).cpu(), bucket.rows.cpu()
            tables = torch.zeros(*bucket.mask.shape, bucket.mask.shape[1], dtype=torch.float64)
            for table, rows, count in zip(tables, places, lengths.tolist(), strict=True):
                table[:count, :count] = self._compatible(vectors[rows[:count]])
            found = cut_trees(tables, lengths, bucket.sizes, "ward", ties=True)
            scatter(bucket, found.to(batch.device), labels)
        return Groups(labels)

    def _compatible(self, vectors: Tensor) -> Tensor:
        """Return the squared distances [t, t] float64 that the other tools start from."""
        cosine = (1 - torch.mm(vectors, vectors.T)).clamp_(0, 2)
        upper = torch.triu(cosine, 1).double()
        distances = upper + upper.T
        if self.mode == "condensed":
            return distances.square_()
        norms = distances.square().sum(1)
        return (norms[:, None] + norms - 2 * distances @ distances).clamp_(min=0)
