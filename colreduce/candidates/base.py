"""What a first stage must be: it finds the few documents worth an exact score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colreduce.method import Method, State
from colreduce.ragged import Ragged


@dataclass(frozen=True, slots=True)
class Query:
    """A query as the first stages see it.

    vectors [q, d] float32, after the recipe's transforms; text, when it came as text.
    """

    vectors: Tensor
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates of one query in one segment, best first; equal scores by row."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Documents:
    """A run of documents as the first stages see them at build time.

    tokens: after the recipe's transforms, before any reduction
    reduced: after the reducers; ``weights`` say how many tokens each vector stands for
    texts: one per document, None where only vectors are known
    """

    tokens: Ragged
    reduced: Ragged
    texts: Sequence[str | None]


# An array that the store writes as it is, or a function that writes one file's bytes.
Part: TypeAlias = "NDArray[Any] | Callable[[BinaryIO], None]"


class Builder(Protocol):
    """Collects a segment's documents in order, in bounded memory where the method allows."""

    def add(self, documents: Documents) -> None:
        """Take in the next documents."""

    def finish(self) -> Mapping[str, Part]:
        """Return the segment's files by name."""


class Searcher(Protocol):
    """Answers queries over one segment."""

    def search(
        self, queries: Sequence[Query], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[Found]:
        """Return up to ``k`` rows per query; rows where ``allowed`` is false never appear."""


@dataclass(frozen=True, kw_only=True)
class FirstStage(Method):
    """Finds candidates. Its scores are only ever compared with its own."""

    def fit(self, sample: Documents, *, seed: int) -> State:
        """Draw or learn what documents and queries must share."""
        return {}

    @abstractmethod
    def builder(self, state: State) -> Builder:
        """Start a segment."""

    @abstractmethod
    def open(
        self,
        arrays: Mapping[str, NDArray[Any]],
        files: Mapping[str, Path],
        state: State,
        documents: int,
    ) -> Searcher:
        """Open a segment of ``documents`` documents from its memory-mapped arrays and its files.

        The store has verified every checksum before this is called.
        """
