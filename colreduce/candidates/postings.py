"""Inverted lists of one segment: for every term, the documents it is in and how much.

Terms are 64-bit numbers, so that segments need no common vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Found, Part, Parts, best

TERMS, ENDS, ROWS, WEIGHTS, TOTALS = "terms", "ends", "rows", "weights", "totals"


@dataclass(frozen=True, slots=True)
class Entries:
    """Some documents' terms in any order: which document, which term, how much."""

    rows: NDArray[np.int64]
    terms: NDArray[np.uint64]
    weights: NDArray[np.float32]


class PostingsBuilder:
    """Gathers entries and sorts them at the end: 20 bytes an entry until then."""

    def __init__(self) -> None:
        self._parts: list[Entries] = []
        self._totals: list[NDArray[np.float32]] = []
        self._documents = 0

    def add(self, entries: Entries, documents: int) -> None:
        """Take in the entries of the next ``documents`` documents, whose rows start at 0."""
        rows = (entries.rows + self._documents).astype(np.int32)
        self._parts.append(Entries(rows.astype(np.int64), entries.terms, entries.weights))
        totals = np.bincount(entries.rows, entries.weights, documents)
        self._totals.append(totals.astype(np.float32))
        self._documents += documents

    def finish(self) -> dict[str, Part]:
        """Return the segment's arrays."""
        if not self._documents:
            return {}
        rows = np.concatenate([part.rows for part in self._parts])
        terms = np.concatenate([part.terms for part in self._parts])
        weights = np.concatenate([part.weights for part in self._parts])
        order = np.lexsort((rows, terms))
        known, counts = np.unique(terms, return_counts=True)
        return {
            TERMS: known,
            ENDS: np.cumsum(counts).astype(np.int64),
            ROWS: rows[order].astype(np.int32),
            WEIGHTS: narrowest(weights[order]),
            TOTALS: np.concatenate(self._totals),
        }


def narrowest(weights: NDArray[np.float32]) -> NDArray[Any]:
    """Return counts in the smallest whole type that holds them, other weights as float32."""
    if not len(weights) or not np.array_equal(weights, np.rint(weights)):
        return weights
    kinds = (np.uint8, np.uint16, np.uint32)
    return weights.astype(next(kind for kind in kinds if weights.max() <= np.iinfo(kind).max))


class Postings:
    """The lists of one segment, memory-mapped."""

    def __init__(self, parts: Parts) -> None:
        empty = np.zeros(0, np.int64)
        self.documents = parts.documents
        self.terms = parts.arrays.get(TERMS, np.zeros(0, np.uint64))
        self._ends = parts.arrays.get(ENDS, empty)
        self._rows = parts.arrays.get(ROWS, empty)
        self._weights = parts.arrays.get(WEIGHTS, empty)
        self.totals = parts.arrays.get(TOTALS, np.zeros(parts.documents, np.float32))

    @cached_property
    def length(self) -> float:
        """Add up the totals of all documents."""
        return float(np.sum(self.totals, dtype=np.float64))

    def lists(self, terms: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return where each term's list starts and ends: [terms, 2]; both 0 if it has none."""
        if not len(self.terms):
            return np.zeros((len(terms), 2), np.int64)
        at = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
        ends = np.asarray(self._ends[at])
        starts = np.where(at > 0, self._ends[at - 1], 0)
        there = np.asarray(self.terms[at]) == terms
        return np.stack([starts, ends], axis=1) * there[:, None]

    def counts(self, terms: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return how many documents hold each term."""
        bounds = self.lists(terms)
        return bounds[:, 1] - bounds[:, 0]

    def entries(
        self, terms: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return the lists of some terms end to end: place among ``terms``, row, weight."""
        bounds = self.lists(terms)
        lengths = bounds[:, 1] - bounds[:, 0]
        which = np.repeat(np.arange(len(terms)), lengths)
        inside = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        at = inside + bounds[which, 0]
        return which, self._rows[at].astype(np.int64), self._weights[at].astype(np.float32)

    def everything(self) -> Entries:
        """Return every entry."""
        lengths = np.diff(self._ends, prepend=0)
        terms = np.repeat(np.asarray(self.terms), lengths)
        return Entries(self._rows.astype(np.int64), terms, self._weights.astype(np.float32))

    def ranked(
        self,
        rows: NDArray[np.int64],
        gains: NDArray[np.float64],
        k: int,
        allowed: NDArray[np.bool_] | None,
    ) -> Found:
        """Add up what each row gained and return the best; rows that gained nothing never come."""
        if not len(rows):
            return Found(np.empty(0, np.int64), np.empty(0, np.float32))
        sums = np.bincount(rows, gains, self.documents)
        touched = np.zeros(self.documents, dtype=bool)
        touched[rows] = True
        if allowed is not None:
            touched &= allowed
        found = np.flatnonzero(touched)
        return best(sums[found].astype(np.float32), found, k)


def merge_postings(
    segments: Sequence[tuple[Parts, NDArray[np.int64]]],
) -> Mapping[str, Part]:
    """Lay some documents of several segments end to end."""
    builder = PostingsBuilder()
    for parts, rows in segments:
        entries = Postings(parts).everything()
        place = np.full(parts.documents, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        moved = place[entries.rows]
        kept = moved >= 0
        builder.add(Entries(moved[kept], entries.terms[kept], entries.weights[kept]), len(rows))
    return builder.finish()
