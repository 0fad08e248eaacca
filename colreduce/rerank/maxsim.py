"""The exact late-interaction score of every candidate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.rerank.base import Reranker, Scorer


@dataclass(frozen=True, kw_only=True)
class Maxsim(Reranker):
    """Score every candidate by MaxSim over its stored vectors.

    ``candidates`` is how many documents the first stage is asked for; an exhaustive first stage
    ignores it.
    """

    name = "maxsim"
    paper = "Khattab and Zaharia 2020, arXiv 2004.12832"
    when = "Nearly always."

    def rank(
        self, first_scores: NDArray[np.float32], score: Scorer, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score all, sort by score; the candidates' own order breaks ties."""
        positions = np.arange(len(first_scores), dtype=np.int64)
        scores = score(positions)
        best = np.argsort(-scores, kind="stable")[:k]
        return positions[best], scores[best]
