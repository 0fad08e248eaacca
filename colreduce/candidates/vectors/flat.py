"""Vectors as they are, in float32, float16 or int8, and every one compared with the query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from colreduce.candidates.base import Check, Found, Moved, Part, Parts, best, go_on, wanted_rows
from colreduce.candidates.vectors.base import Matrix, VectorBuilder, VectorSearcher, VectorStore
from colreduce.errors import ShapeMismatch
from colreduce.method import State
from colreduce.native import bits, has_numba, kernels
from colreduce.threads import share_out

VECTORS, SCALES = "vectors", "scales"

# Numbers compared at a time: a block that was turned into float32 is still in the cache.
BLOCK_FLOATS = 1 << 18

# From so many numbers on, native code multiplies several rows at a time, and so many are compared
# between two looks at whether anybody still waits: a few milliseconds.
WORTH_SHARING = 1 << 24

# Rows moved at a time.
MOVED = 1024

# Products of float32 that differ by less than this share of the largest may be equal.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Flat(VectorStore):
    """A plain array, memory-mapped. Nothing is missed but what its numbers round off.

    int8 rows have a scale each: their largest entry is 127.
    """

    dtype: str

    def builder(self, state: State) -> VectorBuilder:
        """Store rows as they come."""
        return _Rows(self.dtype)

    def open(self, parts: Parts, state: State, *, effort: int | None) -> VectorSearcher:
        """Map the rows."""
        return FlatSearcher(parts.arrays[VECTORS], parts.arrays.get(SCALES))

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Moved]:
        """Copy the rows that stay."""
        return merge_rows(segments)


def merge_rows(segments: Sequence[tuple[Parts, NDArray[np.int64]]]) -> dict[str, Moved]:
    """Lay the kept rows of every array end to end."""
    names = {name for parts, _ in segments for name in parts.arrays}
    return {name: _rows_of(name, segments) for name in sorted(names)}


def _rows_of(
    name: str, segments: Sequence[tuple[Parts, NDArray[np.int64]]]
) -> Iterator[NDArray[Any]]:
    for parts, rows in segments:
        for begin in range(0, max(len(rows), 1), MOVED):
            yield parts.arrays[name][rows[begin : begin + MOVED]]


def stored_rows(vectors: Matrix, dtype: str) -> dict[str, NDArray[Any]]:
    """Return vectors [c, f] the way they are stored."""
    if dtype != "int8":
        return {VECTORS: vectors.astype(dtype)}
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    scales = (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)
    return {VECTORS: np.rint(vectors / scales[:, None]).astype(np.int8), SCALES: scales}


@dataclass(frozen=True)
class _Rows:
    dtype: str

    def add(self, vectors: Matrix) -> Mapping[str, NDArray[Any]]:
        """Hand the rows on to the disk."""
        return stored_rows(vectors, self.dtype)

    def finish(self) -> Mapping[str, Part]:
        """Return nothing more."""
        return {}


class FlatSearcher:
    """Compares a query with every row."""

    def __init__(self, vectors: NDArray[Any], scales: NDArray[Any] | None = None) -> None:
        # DLPack shares memory that may not be written to; nothing here writes to it.
        self._vectors = from_dlpack(vectors)
        self._bits = bits(self._vectors)
        self._scales = None if scales is None else from_dlpack(scales)

    @property
    def rows(self) -> int:
        """Return how many vectors there are."""
        return len(self._vectors)

    @property
    def scaled(self) -> bool:
        """Whether every row has a scale."""
        return self._scales is not None

    @property
    def size(self) -> int:
        """Return how many numbers there are."""
        return self._vectors.numel()

    def search(
        self,
        queries: Matrix,
        k: int,
        allowed: NDArray[np.bool_] | None,
        check: Check = go_on,
    ) -> list[Found]:
        """Return the rows of the largest products; equal products by row."""
        return settled([self], queries, k, allowed, check)

    def rough(
        self, queries: Matrix, allowed: NDArray[np.bool_] | None, check: Check = go_on
    ) -> tuple[NDArray[np.int64], Matrix]:
        """Return the rows that may be found and their products, but for their last bits: [r, q]."""
        rows = wanted_rows(len(self._vectors), allowed)
        # Gathering pays when few rows may be returned; else all are read in order.
        gathers = len(rows) * 4 < len(self._vectors)
        scores = self._products(queries, torch.from_numpy(rows) if gathers else None, check)
        return rows, scores if gathers or allowed is None else scores[rows]

    def alone(
        self, query: Matrix, rows: NDArray[np.int64], check: Check = go_on
    ) -> NDArray[np.float32]:
        """Multiply each of these rows with a query on its own."""
        multiply = self._natively if has_numba() else self._in_blocks
        products = multiply(query, rows, check)
        if self._scales is not None:
            products *= self._scales.numpy()[rows]
        return products

    def _natively(
        self, query: Matrix, rows: NDArray[np.int64], check: Check
    ) -> NDArray[np.float32]:
        if query.shape != self._bits.shape[1:]:  # native code looks at no bounds
            raise ShapeMismatch(
                f"the query's vector is {len(query)} wide; the stored ones {self._bits.shape[1]}"
            )
        products = np.empty(len(rows), np.float32)

        step = max(WORTH_SHARING // query.size, 1)

        def some(start: int, stop: int) -> None:
            for begin in range(start, stop, step):
                check()
                part = slice(begin, min(begin + step, stop))
                kernels().dots(self._bits, rows[part], query, products[part])

        if rows.size * query.size < WORTH_SHARING:
            some(0, len(rows))
        else:
            share_out(len(rows), some)
        return products

    def _in_blocks(
        self, query: Matrix, rows: NDArray[np.int64], check: Check
    ) -> NDArray[np.float32]:
        products = [np.empty(0, np.float32)]
        for some in torch.from_numpy(rows).split(max(BLOCK_FLOATS // len(query), 1)):
            check()
            products.append((self._vectors[some].float().numpy() * query).sum(axis=1))
        return np.concatenate(products)

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        """Return the vectors of some rows."""
        found = self._vectors[torch.from_numpy(rows)].float()
        if self._scales is not None:
            found *= self._scales[torch.from_numpy(rows)][:, None]
        return found.numpy()

    def _products(self, queries: Matrix, rows: Tensor | None, check: Check) -> Matrix:
        """Multiply rows, all of them if None, with the queries: [rows, q]."""
        count, width = len(self._vectors) if rows is None else len(rows), queries.shape[1]
        whole = rows is None and self._vectors.dtype == torch.float32
        step = max((WORTH_SHARING if whole else BLOCK_FLOATS) // width, 1)
        right = torch.from_numpy(np.ascontiguousarray(queries.T))
        scores = torch.empty(count, len(queries))
        space = torch.empty(min(step, count), width)
        for start in range(0, count, step):
            check()
            stop = min(start + step, count)
            block = self._vectors[start:stop] if rows is None else self._vectors[rows[start:stop]]
            if block.dtype != torch.float32:
                block = space[: stop - start].copy_(block)
            torch.mm(block, right, out=scores[start:stop])
        if self._scales is not None:
            scores *= (self._scales if rows is None else self._scales[rows])[:, None]
        return scores.numpy()


def settled(
    parts: Sequence[FlatSearcher],
    queries: Matrix,
    k: int,
    allowed: NDArray[np.bool_] | None,
    check: Check = go_on,
) -> list[Found]:
    """Search parts that lie end to end as if they were one.

    For several queries, rows are multiplied in blocks and the best are scored once more, one by
    one: a product that was taken in a block can differ in its last bits with the row's place in
    the block. Taken alone it is the same for equal vectors in every part, so ties are ties. Native
    code takes them alone from the start when there is but one query.
    """
    starts = np.cumsum([0, *(part.rows for part in parts)])
    if len(queries) == 1 and has_numba():
        return [_alone(parts, starts, queries[0], k, allowed, check)]
    rough = [
        part.rough(queries, _narrowed(allowed, begin, end), check)
        for part, begin, end in zip(parts, starts, starts[1:], strict=False)
    ]
    counts = np.cumsum([0, *(len(rows) for rows, _ in rough)])
    found = []
    for number, query in enumerate(queries):
        products = np.concatenate([scores[:, number] for _, scores in rough])
        near = _near(products, k)
        bounds = np.searchsorted(near, counts)
        rows, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for place, part in enumerate(parts):
            some = near[bounds[place] : bounds[place + 1]]
            if len(some):
                inside = rough[place][0][some - counts[place]]
                rows.append(inside + starts[place])
                scores.append(part.alone(query, inside))
        found.append(best(np.concatenate(scores), np.concatenate(rows), k))
    return found


def _alone(
    parts: Sequence[FlatSearcher],
    starts: NDArray[np.int64],
    query: Matrix,
    k: int,
    allowed: NDArray[np.bool_] | None,
    check: Check,
) -> Found:
    rows, scores = [], []
    for part, begin in zip(parts, starts.tolist(), strict=False):
        some = None if allowed is None else allowed[begin : begin + part.rows]
        inside = wanted_rows(part.rows, some)
        scores.append(part.alone(query, inside, check))
        rows.append(inside + begin if begin else inside)
    if len(parts) == 1:
        return best(scores[0], rows[0], k)
    return best(np.concatenate(scores), np.concatenate(rows), k)


def _narrowed(allowed: NDArray[np.bool_] | None, begin: int, end: int) -> NDArray[np.bool_] | None:
    """Return what is said of some rows, None if all of them may be found."""
    if allowed is None or allowed[begin:end].all():
        return None
    return allowed[begin:end]


def _near(products: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return where the products stand that may be among the ``k`` largest."""
    cut = len(products) - k
    if cut <= 0:
        return np.arange(len(products))
    least = np.partition(products, cut)[cut]
    return np.flatnonzero(products >= least - ROUNDING * float(np.abs(products).max()))
