"""Kernels compiled by numba. They release the GIL and allocate next to nothing.

Numbers in half precision are given as the integers of their bits, since numba knows no such type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from colreduce.native.tiles import ROWS, WIDE, tile

Function = TypeVar("Function", bound=Callable[..., Any])
Numbers: TypeAlias = NDArray[Any]

# Half precision keeps five bits of exponent, so read as float32 a number is too small by this.
UP = np.float32(2.0**112)


def native(function: Function) -> Function:
    """Compile a function on its first call, and keep the compiled code on disk."""
    return compiled_with(function)


def finite(function: Function) -> Function:
    """Compile as `native` does, for values none of which is NaN."""
    return compiled_with(function, fastmath={"nnan", "nsz"})


def reordered(function: Function) -> Function:
    """Compile as `native` does, free to reorder sums."""
    return compiled_with(function, fastmath=True)


def compiled_with(function: Function, **options: Any) -> Function:
    """Compile a function on its first call; keep it on disk if there is a place to write to."""
    try:
        return cast(Function, njit(nogil=True, cache=True, **options)(function))
    except RuntimeError:  # that is how numba says that there is none
        return cast(Function, njit(nogil=True, **options)(function))


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _as_float(context: Any, bits: Any) -> Any:
    """Read the bits of an integer as a float32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), build


@native
def widened(bits: Any) -> Any:
    """Return a number in half precision as float32, exactly; none is infinite."""
    wide = np.int32(bits)
    sign = (wide & np.int32(0x8000)) << np.int32(16)
    return _as_float(sign | ((wide & np.int32(0x7FFF)) << np.int32(13))) * UP


def _scale(tokens: Any, scales: Any, token: Any) -> Any:
    """Return what the numbers of a vector are multiplied by: whole steps have a size."""


overload(_scale)(
    lambda tokens, scales, token: (
        (lambda tokens, scales, token: widened(scales[token]))
        if tokens.dtype == types.int8
        else (lambda tokens, scales, token: np.float32(1))
    )
)


def _number(stored: Any, scale: Any) -> Any:
    """Return a stored number as float32: a step, the bits of a half, or as it is."""


overload(_number)(
    lambda stored, scale: {
        types.int8: lambda stored, scale: np.float32(stored) * scale,
        types.int16: lambda stored, scale: widened(stored),
    }.get(stored, lambda stored, scale: stored)
)


@native
def _gather(tokens: Numbers, scales: Numbers, offsets: Numbers, rows: Numbers, out: Numbers) -> Any:
    """Lay the vectors of documents end to end: ``out`` [t, d]."""
    place = 0
    for row in rows:
        for token in range(offsets[row], offsets[row + 1]):
            scale = _scale(tokens, scales, token)
            for column in range(tokens.shape[1]):
                out[place, column] = _number(tokens[token, column], scale)
            place += 1


@native
def _multiply(rows: Numbers, count: Any, columns: Numbers, products: Numbers) -> Any:
    """Multiply the first rows; what lies behind them is multiplied, too, up to a whole tile."""
    for column in range(0, columns.shape[1], WIDE):
        for first in range(0, count, ROWS):
            tile(rows, columns, products, first, column)


@finite
def _sum_of_largest(
    products: Numbers, offsets: Numbers, rows: Numbers, best: Numbers, scores: Numbers
) -> Any:
    """Fill ``scores`` [n] with the sum over columns of the largest value of each document's run."""
    place = 0
    for number in range(len(rows)):
        stop = place + offsets[rows[number] + 1] - offsets[rows[number]]
        for column in range(len(best)):
            best[column] = products[place, column]
        for token in range(place + 1, stop):
            for column in range(len(best)):
                best[column] = max(best[column], products[token, column])
        total = np.float32(0)
        for column in range(len(best)):
            total += best[column]
        scores[number] = total
        place = stop


@native
def _that_fit(offsets: Numbers, rows: Numbers, first: Any, room: Any) -> Any:
    """Return which document is the first that finds no more room, and how much is taken."""
    last, count = first, 0
    while last < len(rows):
        size = offsets[rows[last] + 1] - offsets[rows[last]]
        if count + size > room:
            break
        count += size
        last += 1
    return last, count


@native
def maxsim(
    tokens: Numbers,
    scales: Numbers,
    offsets: Numbers,
    rows: Numbers,
    columns: Numbers,
    laid: Numbers,
    products: Numbers,
    best: Numbers,
    scores: Numbers,
) -> Any:
    """Score the documents ``rows``: fill ``scores`` [n].

    tokens   [t, d]  float32, the bits of halves as int16, or whole steps as int8
    scales   [t]     the bits of the steps' sizes; nothing for others
    offsets          document n has the vectors from offsets[n] to offsets[n + 1]
    columns  [d, w]  the query's vectors; w is a whole number of tiles
    laid     [r, d]  and products [r, w]: room to work in, for a tile more than the longest document
    best     [q]     room for the largest value of each of the query's vectors
    """
    first = 0
    while first < len(rows):
        last, count = _that_fit(offsets, rows, first, len(laid) - ROWS)
        some = rows[first:last]
        _gather(tokens, scales, offsets, some, laid)
        _multiply(laid, count, columns, products)
        _sum_of_largest(products, offsets, some, best, scores[first:last])
        first = last


@reordered
def dots(vectors: Numbers, rows: Numbers, query: Numbers, out: Numbers) -> Any:
    """Fill ``out`` [n] with the product of ``query`` and each of some rows, taken alone.

    vectors [t, d]  float32, the bits of halves as int16, or whole steps as int8
    """
    for number in range(len(rows)):
        row = rows[number]
        total = np.float32(0)
        for column in range(vectors.shape[1]):
            total += _number(vectors[row, column], np.float32(1)) * query[column]
        out[number] = total


@native
def _before(score: Any, row: Any, other: Any, other_row: Any) -> Any:
    """Say whether one row comes before another: by score, then by row."""
    return score > other or (score == other and row < other_row)


@native
def _sink(scores: Numbers, rows: Numbers, place: Any, size: Any, score: Any, row: Any) -> Any:
    """Put a row into a heap from ``place`` downwards. Its first is the one that comes last."""
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _before(
            scores[child], rows[child], scores[child + 1], rows[child + 1]
        ):
            child += 1
        if not _before(score, row, scores[child], rows[child]):
            break
        scores[place], rows[place] = scores[child], rows[child]
        place = child
    scores[place], rows[place] = score, row


@native
def largest(scores: Numbers, rows: Numbers, best: Numbers, which: Numbers) -> Any:
    """Fill ``best`` [k] and ``which`` [k] with the highest scores and their rows, in order.

    Equal scores by row. k is at least 1 and no more than there are.
    """
    count = len(best)
    best[:], which[:] = scores[:count], rows[:count]
    for place in range(count // 2 - 1, -1, -1):
        _sink(best, which, place, count, best[place], which[place])
    for number in range(count, len(scores)):
        if _before(scores[number], rows[number], best[0], which[0]):
            _sink(best, which, 0, count, scores[number], rows[number])
    for size in range(count - 1, 0, -1):
        score, row = best[size], which[size]
        best[size], which[size] = best[0], which[0]
        _sink(best, which, 0, size, score, row)


@finite
def row_runs_max(
    rows: NDArray[np.float32], ends: NDArray[np.int64], best: NDArray[np.float32]
) -> Any:
    """Fill ``best`` [n, q] with the largest value per column of each run of ``rows`` [t, q]."""
    start = 0
    for run in range(len(ends)):
        found = best[run]
        found[:] = rows[start]
        for row in range(start + 1, ends[run]):
            for column in range(rows.shape[1]):
                found[column] = max(found[column], rows[row, column])
        start = ends[run]


@native
def row_runs_max_bfloat16(
    rows: NDArray[np.int16], ends: NDArray[np.int64], best: NDArray[np.int16]
) -> Any:
    """Do the same for bfloat16, whose bits are given as integers.

    The bits of negative numbers are in the wrong order as integers, so all but their sign is
    turned round before they are compared, and turned back afterwards.
    """
    start = 0
    for run in range(len(ends)):
        found = best[run]
        found[:] = -32768
        for row in range(start, ends[run]):
            for column in range(rows.shape[1]):
                bits = rows[row, column]
                ordered = np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF)))
                found[column] = max(found[column], ordered)
        for column in range(rows.shape[1]):
            bits = found[column]
            found[column] = np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF)))
        start = ends[run]
