"""What a vector store must be: a float vector per document in, the largest products out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Check, Found, Moved, Part, Parts, go_on
from colreduce.method import State

Matrix: TypeAlias = "NDArray[np.float32]"


class VectorBuilder(Protocol):
    """Takes in the vectors of a segment's documents in order."""

    def add(self, vectors: Matrix) -> Mapping[str, NDArray[Any]]:
        """Take in ``vectors`` [c, f]; return rows to append to the segment's arrays."""

    def finish(self) -> Mapping[str, Part]:
        """Return what could not be written before the end."""


class VectorSearcher(Protocol):
    """Finds the rows whose vectors have the largest products with a query's."""

    def search(
        self,
        queries: Matrix,
        k: int,
        allowed: NDArray[np.bool_] | None,
        check: Check = go_on,
    ) -> list[Found]:
        """Return up to ``k`` rows for each of ``queries`` [q, f]."""

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        """Return the vectors of some rows as far as their codes tell: [len(rows), f]."""


class VectorStore(ABC):
    """One way to lay vectors on disk and to search them. All take inner products."""

    def fit(self, sample: Matrix, *, seed: int) -> State:
        """Learn what segments are to share, such as codebooks, from a sample [s, f]."""
        return {}

    @abstractmethod
    def builder(self, state: State) -> VectorBuilder:
        """Start a segment."""

    @abstractmethod
    def open(self, parts: Parts, state: State, *, effort: int | None) -> VectorSearcher:
        """Open a segment. ``effort`` is how much of it a query looks at; None takes the default."""

    @abstractmethod
    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Moved]:
        """Make one segment's parts out of some rows of several."""
