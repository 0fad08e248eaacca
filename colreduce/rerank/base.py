"""What a reranker must be: it gives the final order to the candidates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from colreduce.method import Method, parameter

# Exact scores of some rows of the candidates' list: positions [p] -> scores [p].
Scorer: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Second:
    """How the best are scored once more, over the vectors they had before any reducer.

    count  how many of the best
    codec  how these vectors are kept
    """

    count: int
    codec: str


@dataclass(frozen=True, kw_only=True)
class Reranker(Method):
    """Decides which candidates are scored exactly and in which order they are returned.

    ``candidates="auto"`` takes the number that the index' own recall curve needs for ``recall``.
    """

    candidates: int | str = parameter(
        200, "documents asked of the first stage", low=1, high=10_000, words=("auto",)
    )
    recall: float = parameter(
        0.98, "with auto: share of the best ten that must be among them", above=0, high=1
    )

    @property
    def second(self) -> Second | None:
        """Return how the best are scored once more; None if they are not."""
        return None

    @abstractmethod
    def rank(
        self, first_scores: NDArray[np.float32], score: Scorer, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the best ``k`` positions in the candidates' list, with their scores.

        first_scores [c]  the first stage's scores, best first
        score             exact scores on demand; a position that is never asked costs nothing
        """
