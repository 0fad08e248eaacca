"""Exact scores of many queries against a corpus that does not fit in memory.

Nothing here holds more than a block of similarities, the best rows of each query so far, and the
scores of the candidates that were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.maxsim import segment_max
from colreduce.ragged import Ragged, runs

# Similarities held at a time: 8 MB, which stay near the cache; on a device 128 MB.
BLOCK_SIMILARITIES, ON_DEVICE = 1 << 21, 1 << 25

# Query vectors that are multiplied together. With more of them documents are cut too fine.
QUERY_VECTORS = 1 << 14

# The products of query vectors [q, d] with a run of stored vectors: [q, stop - start].
Products: TypeAlias = Callable[[Tensor, slice], Tensor]


def dense(tokens: Tensor) -> Products:
    """Return the products with vectors [t, d], laid out as their maximum is found fastest."""
    return lambda query, rows: (tokens[rows] @ query.T).T


def score_all(
    queries: Ragged, lengths: NDArray[np.int64], products: Products
) -> NDArray[np.float32]:
    """Score every query against every document by MaxSim.

    lengths  [n]   vectors per document; ``products`` is asked for runs of whole documents
    returns  [queries, n]
    """
    scores = np.empty((len(queries), len(lengths)), dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    query_lengths = queries.lengths.cpu().numpy()
    room = BLOCK_SIMILARITIES if queries.tokens.device.type == "cpu" else ON_DEVICE
    for first, last in runs(query_lengths, QUERY_VECTORS):
        some = queries.take(slice(first, last))
        limit = max(room // len(some.tokens), 1)
        for start, stop in runs(lengths, limit):
            similarities = products(some.tokens, slice(int(offsets[start]), int(offsets[stop])))
            best = best_per_document(similarities, lengths[start:stop])
            starts = np.concatenate([[0], np.cumsum(query_lengths[first:last])[:-1]])
            scores[first:last, start:stop] = np.add.reduceat(best, starts, axis=0)
    return scores


def best_per_document(similarities: Tensor, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the largest value of each document's run of columns: [q, t] -> [q, n]."""
    on_device = torch.from_numpy(lengths).to(similarities.device)
    return np.asarray(segment_max(similarities, on_device).cpu().numpy())


def overlaps(
    rows: NDArray[np.int64] | Sequence[NDArray[np.int64]],
    wanted: NDArray[np.int64] | Sequence[NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Return for each query the share of the wanted rows that is among its rows: [queries].

    Of nothing nothing can be lost.
    """
    pairs = zip(rows, wanted, strict=True)
    return np.array([np.isin(best, some).mean() if len(best) else 1.0 for some, best in pairs])


class TopRows:
    """The best rows of each query over all blocks seen; of equal scores the earlier row."""

    def __init__(self, queries: int, depth: int) -> None:
        self.depth = depth
        self._rows = np.empty((queries, 0), dtype=np.int64)
        self._scores = np.empty((queries, 0), dtype=np.float32)

    @property
    def least(self) -> NDArray[np.float32]:
        """Return what a score must reach to be among the best: [queries]."""
        count = self._scores.shape[1]
        if count < self.depth:
            return np.full(len(self._scores), -np.inf, dtype=np.float32)
        cut = count - self.depth
        return np.asarray(np.partition(self._scores, cut, axis=1)[:, cut])

    def add(self, start: int, scores: NDArray[np.float32]) -> None:
        """Take in the scores [queries, n] of the rows from ``start`` on."""
        rows = np.arange(start, start + scores.shape[1], dtype=np.int64)
        self._rows = np.hstack([self._rows, np.broadcast_to(rows, scores.shape)])
        self._scores = np.hstack([self._scores, scores])
        if self._rows.shape[1] > 4 * self.depth:
            self._prune()

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return rows and scores [queries, up to depth], best first."""
        self._prune()
        return self._rows, self._scores

    def _prune(self) -> None:
        best = np.argsort(-self._scores, axis=1, kind="stable")[:, : self.depth]
        self._rows = np.take_along_axis(self._rows, best, axis=1)
        self._scores = np.take_along_axis(self._scores, best, axis=1)


class Wanted:
    """The scores of chosen rows of each query, picked out of the blocks as they come by."""

    def __init__(self, rows: Sequence[NDArray[np.int64]]) -> None:
        self._ends = np.cumsum([len(some) for some in rows])
        flat = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        self._order = np.argsort(flat, kind="stable")
        self._sorted = flat[self._order]
        self._query = np.repeat(np.arange(len(rows)), [len(some) for some in rows])[self._order]
        self._scores = np.full(len(flat), -np.inf, dtype=np.float32)

    def add(self, start: int, scores: NDArray[np.float32]) -> None:
        """Pick from the scores [queries, n] of the rows from ``start`` on."""
        low, high = np.searchsorted(self._sorted, [start, start + scores.shape[1]])
        picked = scores[self._query[low:high], self._sorted[low:high] - start]
        self._scores[self._order[low:high]] = picked

    def finish(self) -> list[NDArray[np.float32]]:
        """Return the scores of each query's rows, in the order the rows were given."""
        return np.split(self._scores, self._ends[:-1])


class Followed:
    """The scores on every level of each query's best rows on the first one."""

    def __init__(self, levels: int, queries: int, size: int) -> None:
        self.size = size
        self._scores = np.empty((levels, queries, 0), dtype=np.float32)

    def add(self, scores: NDArray[np.float32]) -> None:
        """Take in the scores [levels, queries, n] of further rows."""
        joined = np.concatenate([self._scores, scores], axis=2)
        best = np.argsort(-joined[0], axis=1, kind="stable")[:, : self.size]
        self._scores = np.take_along_axis(joined, best[None], axis=2)

    def finish(self) -> NDArray[np.float32]:
        """Return the scores [levels, queries, up to size], by the first level, best first."""
        return self._scores
