"""Vectors in a FAISS index: compressed, in lists, or in a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.candidates.base import Part, Parts
from colreduce.candidates.vectors import gpu, library
from colreduce.candidates.vectors.base import Matrix, VectorBuilder, VectorSearcher, VectorStore
from colreduce.candidates.vectors.flat import VECTORS, FlatSearcher, stored_rows
from colreduce.candidates.vectors.kinds import Kind
from colreduce.candidates.vectors.search import IndexSearcher, OpenIndex
from colreduce.method import State

INDEX, SHARED, TRAINED = "index", "shared", "trained"

# A segment with fewer vectors keeps them in a plain array and is searched exactly.
SMALL = 4096

# Vectors wider than this are too many bytes to be kept whole in lists.
WIDE = 1024

# The largest number that float16 holds, with room to spare.
HALF_MOST = 6e4

# Numbers that a segment without shared training waits for before it trains: 256 MB.
TRAIN_FLOATS = 1 << 26
TRAIN_MOST = 1 << 16


@dataclass(frozen=True)
class Indexed(VectorStore):
    """One kind of FAISS index per segment; plain float16 rows while the segment is small.

    A sample of `SMALL` vectors trains the index once for all segments. With a smaller sample,
    each large segment trains on its own first vectors: products stay comparable, for every kind
    approximates the same one.
    """

    kind: Kind
    small: int = SMALL  # fewer vectors than this stay plain
    small_floats: int = 0  # and so does a segment of fewer numbers than this
    wide: Kind | None = None  # what vectors wider than `WIDE` are given in place of ``kind``

    def fit(self, sample: Matrix, *, seed: int) -> State:
        """Train on a sample that is large enough."""
        if len(sample) < SMALL:
            return {}
        width = sample.shape[1]
        trained = gpu.train(self.kind_for(width).make(width, len(sample)), sample)
        return {TRAINED: torch.from_numpy(library.serialized(trained).copy())}

    def builder(self, state: State) -> VectorBuilder:
        """Start a segment."""
        trained = _trained(state)
        return _Builder(self, trained, shared=trained is not None)

    def open(self, parts: Parts, state: State, *, effort: int | None) -> VectorSearcher:
        """Map the plain rows or read the index."""
        if INDEX not in parts.files:
            return FlatSearcher(parts.arrays[VECTORS])
        opened = OpenIndex(parts.files[INDEX])
        return IndexSearcher(opened, self.kind_for(int(opened.index.d)), effort)

    def kind_for(self, width: int) -> Kind:
        """Return the kind of index that vectors of this width are given."""
        return self.wide if self.wide is not None and width > WIDE else self.kind

    def waits_for(self, width: int, trained: bool) -> int:
        """Return how many vectors are gathered before they become an index."""
        least = self.least(width)
        return least if trained else max(least, min(TRAIN_FLOATS // width, TRAIN_MOST))

    def least(self, width: int) -> int:
        """Return how many vectors a segment must have to be indexed."""
        return max(self.small, self.small_floats // width)

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Part]:
        """Move codes as they are where training is shared; decode and encode the others."""
        opened = [
            OpenIndex(parts.files[INDEX]) if INDEX in parts.files else None for parts, _ in segments
        ]
        common = _trained(state)
        largest = max((one for one in opened if one), key=lambda one: one.count, default=None)
        trained = common if common is not None or largest is None else largest.emptied()
        builder = _Builder(self, trained, shared=common is not None)
        builder.expect(sum(len(rows) for _, rows in segments))
        for (parts, rows), index in zip(segments, opened, strict=True):
            if index is None:
                builder.add(np.asarray(parts.arrays[VECTORS][rows], dtype=np.float32))
            elif (SHARED in parts.arrays) if common is not None else index is largest:
                builder.move(index, rows)
            else:
                for block in index.decoded(rows):
                    builder.add(block)
        return builder.finish()


def _trained(state: State) -> Any | None:
    return library.emptied(state[TRAINED].numpy()) if TRAINED in state else None


class _Builder:
    """Gathers vectors until there are enough to train on or to index, then encodes them."""

    def __init__(self, store: Indexed, trained: Any | None, *, shared: bool) -> None:
        self._store = store
        self._trained = trained
        self._shared = shared
        self._held: list[Matrix] = []
        self._count = 0
        self._index: Any | None = None

    def expect(self, count: int) -> None:
        """Begin the index at once if it is known that so many vectors will come."""
        if self._trained is not None and count >= self._store.least(int(self._trained.d)):
            self._index = self._trained

    def add(self, vectors: Matrix) -> Mapping[str, NDArray[Any]]:
        """Take in vectors; nothing is written before the end."""
        if self._index is not None:
            self._index.add(np.ascontiguousarray(vectors))
            return {}
        self._held.append(vectors)
        self._count += len(vectors)
        waits = self._store.waits_for(vectors.shape[1], self._trained is not None)
        if self._count >= waits:
            self._begin(waits)
        return {}

    def move(self, source: OpenIndex, rows: NDArray[np.int64]) -> None:
        """Take over rows of an index with the same training."""
        if self._index is None or not source.movable:
            for block in source.decoded(rows):
                self.add(block)
        else:
            source.move(rows, self._index)

    def finish(self) -> Mapping[str, Part]:
        """Return the index, or the plain rows of a small segment."""
        if self._index is None and self._count:
            width = self._held[0].shape[1]
            if self._count < self._store.least(width):
                rows = np.concatenate(self._held)
                narrow = float(np.abs(rows).max()) < HALF_MOST
                return dict(stored_rows(rows, "float16" if narrow else "float32"))
            self._begin(self._count)
        if self._index is None:
            return {}
        shared = {SHARED: np.ones(1, dtype=np.int8)} if self._shared else {}
        return {INDEX: library.written(self._index), **shared}

    def _begin(self, most: int) -> None:
        """Make the index; train it on the first ``most`` vectors if nothing was learned before."""
        vectors = np.concatenate(self._held)
        if self._trained is None:
            sample = vectors[:most]
            width = vectors.shape[1]
            untrained = self._store.kind_for(width).make(width, len(sample))
            self._trained = gpu.train(untrained, sample)
        self._index = self._trained
        self._index.add(vectors)
        self._held = []
