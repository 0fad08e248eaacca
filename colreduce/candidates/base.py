"""What a first stage must be: it finds the few documents worth an exact score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colreduce.method import Method, State
from colreduce.native import has_numba, kernels
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


# Raises when nobody waits for an answer any more.
Check: TypeAlias = "Callable[[], None]"


def go_on() -> None:
    """Let a search go on, for whomever."""


# An array that the store writes as it is, or a function that writes one file's bytes.
Part: TypeAlias = "NDArray[Any] | Callable[[BinaryIO], None]"

# The same, or an array that is too large to be held, as blocks of rows that follow each other.
Moved: TypeAlias = "Part | Iterator[NDArray[Any]]"


class Builder(Protocol):
    """Collects a segment's documents in order, in bounded memory where the method allows."""

    def add(self, documents: Documents) -> Mapping[str, NDArray[Any]]:
        """Take in the next documents; return rows to append to the segment's arrays at once."""

    def finish(self) -> Mapping[str, Part]:
        """Return the files and arrays that could not be written before the end, by name."""


class Searcher(ABC):
    """Answers queries over one segment."""

    @abstractmethod
    def prepare(self, query: Query) -> Any:
        """Work out of a query all that is the same for every segment of a view."""

    @abstractmethod
    def answer(
        self,
        prepared: Any,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Return up to ``k`` rows; those where ``allowed`` is false are never among them.

        ``check`` is called now and then while it takes long; it raises when nobody waits any more.
        """

    def search(
        self, queries: Sequence[Query], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[Found]:
        """Answer queries that are asked of this segment alone."""
        return [self.answer(self.prepare(query), k, allowed) for query in queries]


@dataclass(frozen=True, slots=True)
class Side:
    """Segments of a view that lie side by side and are asked together, as if they were one."""

    segments: tuple[Searcher, ...]
    together: Searcher


@dataclass(frozen=True, slots=True)
class Parts:
    """What a segment holds of one first stage, opened.

    arrays     what builders returned as arrays, memory-mapped
    files      the bytes of what they returned as functions, memory-mapped
    documents  how many documents the segment has, dead ones included

    The store has verified every checksum before anything is opened.
    """

    arrays: Mapping[str, NDArray[Any]]
    files: Mapping[str, NDArray[np.uint8]]
    documents: int


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
    def open(self, parts: Parts, state: State) -> Searcher:
        """Open a segment."""

    @abstractmethod
    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Moved]:
        """Make the parts of one segment out of some rows of several, in the order given.

        For compaction: documents are not encoded again, for what they were encoded from may not
        have been kept.
        """

    def assemble(self, searchers: Sequence[Searcher], before: Sequence[Side] = ()) -> list[Side]:
        """Let the segments of one view know of each other; return whom to ask, in their order.

        For scores that rest on the statistics of the whole corpus, and for segments that are so
        small that asking takes longer than answering. ``before`` is what was returned for the view
        before this one, so that only what has changed since need be worked out.
        """
        return [Side((searcher,), searcher) for searcher in searchers]


@dataclass(frozen=True, kw_only=True)
class Fusion(Method):
    """Makes one list of candidates out of those of several first stages."""

    @abstractmethod
    def fuse(self, found: Sequence[Found], k: int) -> Found:
        """Return the best ``k`` rows over all lists; equal scores by row."""


def best(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
    """Return the ``k`` rows of the highest scores; equal scores by row."""
    k = min(k, len(scores))
    if k and has_numba():
        found = Found(np.empty(k, np.int64), np.empty(k, np.float32))
        kernels().largest(
            np.ascontiguousarray(scores, dtype=np.float32),
            np.ascontiguousarray(rows, dtype=np.int64),
            found.scores,
            found.rows,
        )
        return found
    if 0 < k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = np.flatnonzero(scores >= least)
        scores, rows = scores[keep], rows[keep]
    order = np.lexsort((rows, -scores))[:k]
    return Found(
        np.ascontiguousarray(rows[order], dtype=np.int64),
        np.ascontiguousarray(scores[order], dtype=np.float32),
    )


def wanted_rows(documents: int, allowed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Return the rows that a search may return."""
    if allowed is None:
        return np.arange(documents, dtype=np.int64)
    return np.flatnonzero(allowed).astype(np.int64)
