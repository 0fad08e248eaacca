"""Trying arms on a pool: every intermediate result is computed once and shared.

Arms whose methods begin alike share what those make of the pool: one projection for all that have
it, one reduction for all codecs behind it. Methods learn from the same documents as those of an
index of the corpus would.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.codec.base import Codec, Codes
from colreduce.evaluate.scoring import score_all
from colreduce.maxsim import segment_max
from colreduce.method import Method, State
from colreduce.pipeline import Pipeline
from colreduce.plan.exact import hide
from colreduce.plan.pool import Pool
from colreduce.plan.space import Arm
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.reduce.base import Reducer
from colreduce.transform.base import Transform

# Bytes that an index keeps of a document's numbers of vectors, before and after reduction.
COUNTS_BYTES = 4

# Searches that are timed, and the documents that each of them scores at the least.
TIMED, FEW = 5, 200


@dataclass(frozen=True, slots=True)
class Made:
    """What a row of methods made of the pool.

    documents  what is left; queries as they meet it
    learned    bytes of what the methods learned
    """

    documents: Ragged
    queries: Ragged
    learned: int


@dataclass(frozen=True, slots=True)
class Tried:
    """One arm on a pool.

    scores           [queries, n] by MaxSim over what is stored
    vectors          vectors left of a document, on average
    bytes_per_doc    of vectors and of what methods learned, in an index of the whole corpus
    few_ms, all_ms   milliseconds to score 200 documents of the pool, and all of them
    """

    arm: Arm
    scores: NDArray[np.float32]
    vectors: float
    bytes_per_doc: float
    few_ms: float
    all_ms: float


class Bench:
    """A pool on which arms are tried."""

    def __init__(self, pool: Pool, *, seed: int, timed: bool) -> None:
        self._pool = pool
        self._seed = seed
        self._timed = timed
        encoder = pool.task.encoder
        self._vocabulary = None if encoder is None else encoder.vocabulary
        self._made: dict[tuple[str, ...], Made] = {}

    def scores(self, arm: Arm) -> Tried:
        """Try one arm."""
        *before, last = arm.pieces
        made = self._make(tuple(before))
        codec = _method(last)
        assert isinstance(codec, Codec)
        state = codec.fit(made.documents.take(self._pool.learned), seed=self._seed)
        codes = codec.encode(made.documents.tokens, state)

        def products(query: Tensor, rows: slice) -> Tensor:
            some = {name: part[rows] for name, part in codes.items()}
            return codec.similarities(query, some, state)

        lengths = made.documents.lengths.numpy()
        scores = score_all(made.queries, lengths, products)
        task = self._pool.task
        hide(scores, task.hidden[self._pool.queries], self._pool.rows)
        vectors = float(lengths.mean())
        each = codec.bytes_per_vector(made.documents.dim)
        learned = (made.learned + _size(state)) / len(task.documents)
        few, every = self._time(codec, state, codes, made) if self._timed else (0.0, 0.0)
        return Tried(arm, scores, vectors, vectors * each + COUNTS_BYTES + learned, few, every)

    def forget(self, arm: Arm) -> None:
        """Let go of what only the arms that reduce as this one does can use."""
        for key in [key for key in self._made if len(key) > 1 and key == arm.pieces[: len(key)]]:
            del self._made[key]

    def _make(self, pieces: tuple[str, ...]) -> Made:
        if pieces not in self._made:
            self._made[pieces] = self._apply(pieces)
        return self._made[pieces]

    def _apply(self, pieces: tuple[str, ...]) -> Made:
        if not pieces:
            return Made(self._pool.documents, self._pool.asked, 0)
        before = self._make(pieces[:-1])
        method = _method(pieces[-1])
        sample = before.documents.take(self._pool.learned)
        if isinstance(method, Transform):
            state = method.fit(sample, seed=self._seed)
            turned = method.apply(before.documents.tokens, state)
            asked = before.queries.with_tokens(method.apply(before.queries.tokens, state))
            left = before.documents.with_tokens(turned)
            return Made(left, asked, before.learned + _size(state))
        assert isinstance(method, Reducer)
        state = method.fit(sample, seed=self._seed, vocabulary=self._vocabulary)
        alone = Pipeline(Recipe((("reduce", method),)), {"reduce.0": state})
        left = alone.reduce(before.documents).batch
        return Made(left, before.queries, before.learned + _size(state))

    def _time(self, codec: Codec, state: State, codes: Codes, made: Made) -> tuple[float, float]:
        """Return the median milliseconds of one query against some documents, and against all."""
        lengths = made.documents.lengths
        few = min(FEW, len(lengths))
        drawn = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(self._seed))
        rows = drawn[:few].sort().values
        where = torch.cat([torch.arange(int(a), int(b)) for a, b in _spans(made.documents, rows)])
        times = np.zeros((TIMED + 1, 2))
        for number, query in enumerate(made.queries.unpack()[: TIMED + 1]):
            started = perf_counter()
            some = {name: part[where] for name, part in codes.items()}
            segment_max(codec.similarities(query, some, state), lengths[rows]).sum(0)
            between = perf_counter()
            segment_max(codec.similarities(query, codes, state), lengths).sum(0)
            times[number] = between - started, perf_counter() - between
        part, whole = np.median(times[1:], axis=0) * 1000
        return float(part), float(whole)


def _spans(documents: Ragged, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    offsets = documents.offsets
    return list(zip(offsets[rows], offsets[rows + 1], strict=True))


def _method(piece: str) -> Method:
    """Return the one method that a piece of a recipe names."""
    name = piece.split("(")[0]
    return next(method for _, method in Recipe.parse(piece).methods if method.name == name)


def _size(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
