"""The first stage has the last word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.rerank.base import Reranker, Scorer


@dataclass(frozen=True, kw_only=True)
class Unranked(Reranker):
    """Return the candidates in the first stage's order, with its scores.

    Shows what the first stage is worth by itself; no stored token vector is read.
    """

    name = "none"
    when = "As the floor in a comparison, or where the first stage is good enough."

    def rank(
        self, first_scores: NDArray[np.float32], score: Scorer, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Take the first ``k``."""
        kept = min(k, len(first_scores))
        return np.arange(kept, dtype=np.int64), first_scores[:kept]
