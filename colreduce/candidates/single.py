"""First stages that keep one vector per document, whatever makes the vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.candidates.base import (
    Builder,
    Check,
    Documents,
    FirstStage,
    Found,
    Moved,
    Part,
    Parts,
    Query,
    Searcher,
    Side,
    go_on,
)
from colreduce.candidates.vectors import VECTOR_STORES
from colreduce.candidates.vectors.base import Matrix, VectorBuilder, VectorSearcher, VectorStore
from colreduce.candidates.vectors.beside import SideBySide
from colreduce.candidates.vectors.flat import FlatSearcher
from colreduce.method import State, parameter

# What a store learned stands in the stage's state under this prefix.
STORE = "store."

# Numbers of the sample that a store learns from: 256 MB.
SAMPLE_FLOATS = 1 << 26


@dataclass(frozen=True, kw_only=True)
class SingleVector(FirstStage):
    """Turns a document into one vector and a query into another; their product is the score."""

    store: str = parameter(
        "auto", "how the vectors are kept and searched", choices=tuple(VECTOR_STORES)
    )
    effort: int | None = parameter(
        None, "lists or neighbours looked at per query, for stores that have any", low=1
    )

    def fit_vectors(self, sample: Documents, *, seed: int) -> State:
        """Draw or learn what makes the vectors."""
        return {}

    @abstractmethod
    def documents(self, documents: Documents, state: State) -> Iterator[Tensor]:
        """Yield the documents' vectors some at a time: ``[c, f]`` blocks, float32."""

    @abstractmethod
    def queries(self, queries: Sequence[Query], state: State) -> Tensor:
        """Return the queries' vectors: [q, f] float32."""

    @property
    def _store(self) -> VectorStore:
        return VECTOR_STORES[self.store]

    def fit(self, sample: Documents, *, seed: int) -> State:
        """Fit the vectors, then the store on the sample's vectors."""
        state = dict(self.fit_vectors(sample, seed=seed))
        learned = self._store.fit(self._sample(sample, state), seed=seed)
        return {**state, **{STORE + name: tensor for name, tensor in learned.items()}}

    def _sample(self, sample: Documents, state: State) -> Matrix:
        """Encode as much of the sample as the store may learn from."""
        taken: list[Matrix] = []
        room = SAMPLE_FLOATS
        for block in self.documents(sample, state):
            taken.append(_array(block))
            room -= block.numel()
            if room <= 0:
                break
        return np.concatenate(taken)

    def builder(self, state: State) -> Builder:
        """Start a segment."""
        return _Builder(self, state, self._store.builder(_learned(state)))

    def open(self, parts: Parts, state: State) -> Searcher:
        """Open the segment's store."""
        if not parts.documents:
            return _NoDocuments()
        return SingleVectorSearcher(
            self, state, self._store.open(parts, _learned(state), effort=self.effort)
        )

    def assemble(self, searchers: Sequence[Searcher], before: Sequence[Side] = ()) -> list[Side]:
        """Ask neighbours that keep plain vectors as one."""
        return [_side(run, before) for run in _runs(searchers)]

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Moved]:
        """Let the store move its rows."""
        return self._store.merge(segments, _learned(state))


def _learned(state: State) -> State:
    return {
        name.removeprefix(STORE): tensor for name, tensor in state.items() if name.startswith(STORE)
    }


def _array(block: Tensor) -> Matrix:
    if block.requires_grad or block.dtype != torch.float32 or block.device.type != "cpu":
        block = block.detach().float().cpu()
    return np.ascontiguousarray(block.numpy())


@dataclass(frozen=True)
class _Builder:
    method: SingleVector
    state: State
    inner: VectorBuilder

    def add(self, documents: Documents) -> Mapping[str, NDArray[Any]]:
        """Encode the documents block by block and store the vectors."""
        rows: dict[str, list[NDArray[Any]]] = {}
        for block in self.method.documents(documents, self.state):
            for name, part in self.inner.add(_array(block)).items():
                rows.setdefault(name, []).append(part)
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    def finish(self) -> Mapping[str, Part]:
        """Return what the store could not write before the end."""
        return self.inner.finish()


class _NoDocuments(Searcher):
    """A segment that holds deletions only."""

    def prepare(self, query: Query) -> None:
        """Look at nothing."""

    def answer(
        self,
        prepared: None,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Find nothing."""
        return Found(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, eq=False)
class SingleVectorSearcher(Searcher):
    """A segment of a first stage that keeps one vector per document."""

    method: SingleVector
    state: State
    inner: VectorSearcher

    def prepare(self, query: Query) -> Matrix:
        """Encode the query: [1, f]."""
        with torch.inference_mode():
            return _array(self.method.queries([query], self.state))

    def answer(
        self,
        prepared: Matrix,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Ask the store."""
        [found] = self.inner.search(prepared, k, allowed, check)
        return found

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        """Return the documents' vectors as far as the store tells: [len(rows), f]."""
        return self.inner.vectors(rows)


def _plain(searcher: Searcher) -> FlatSearcher | None:
    """Return the plain vectors of a segment; None if it keeps others."""
    inner = searcher.inner if isinstance(searcher, SingleVectorSearcher) else None
    return inner if isinstance(inner, FlatSearcher) else None


def _runs(searchers: Sequence[Searcher]) -> Iterator[tuple[Searcher, ...]]:
    """Yield the searchers that are asked together: neighbours that keep plain vectors alike."""

    def kind(searcher: Searcher) -> bool | None:
        plain = _plain(searcher)
        return None if plain is None else plain.scaled

    for alike, run in groupby(searchers, kind):
        if alike is None:
            yield from ((searcher,) for searcher in run)
        else:
            yield tuple(run)


def _side(run: tuple[Searcher, ...], before: Sequence[Side]) -> Side:
    """Return a run as one, with what the view before had of it."""
    same = [one for one in before if one.segments == run]
    if same or len(run) == 1:
        return same[0] if same else Side(run, run[0])
    first = run[0]
    assert isinstance(first, SingleVectorSearcher)
    parts = [plain for searcher in run if (plain := _plain(searcher)) is not None]
    asked = [one.together for one in before if isinstance(one.together, SingleVectorSearcher)]
    held = [one.inner for one in asked if isinstance(one.inner, SideBySide)]
    return Side(run, SingleVectorSearcher(first.method, first.state, SideBySide(parts, held)))
