"""MaxSim in one pass over the stored vectors, on a CUDA device: no similarity leaves the chip.

A program takes some documents and one query. It reads the documents' vectors in the type they are
stored in, multiplies them with the query's on the tensor cores, keeps the largest product of each
query vector, and writes one number per document. What moves is what is stored.

With ``TRITON_INTERPRET=1`` the same code runs on CPU, number by number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from colreduce.maxsim.triton_parts import LEAST, PRECISION, leading, multiplied, power
from colreduce.maxsim.triton_stream import (
    MOST_QUERY,
    MOST_WIDTH,
    WORTH_STREAMING,
    Layout,
    layout,
    maxsim_stream,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a program cuts up its work.

    rows   document vectors multiplied at a time
    depth  how many numbers of each
    """

    rows: int
    depth: int
    warps: int = 4
    stages: int = 2


SHAPES = {
    torch.float32: Shape(128, 32, stages=3),
    torch.float16: Shape(128, 128),
    torch.bfloat16: Shape(128, 128),
    torch.int8: Shape(128, 128),
}


def maxsim_packed(
    query: Tensor,
    query_lengths: Tensor,
    tokens: Tensor,
    lengths: Tensor,
    scales: Tensor | None = None,
    *,
    cut: Layout | None = None,
    shape: Shape | None = None,
    precision: str = PRECISION,
) -> Tensor:
    """Score queries against packed documents: [queries, n] float32.

    query          [q, d]  the vectors of all queries end to end, any float type
    query_lengths  [queries] int64
    tokens         [t, d]  float32, float16, bfloat16 or int8
    lengths        [n]     int64, vectors per document, none of them 0
    scales         [t]     what each vector is multiplied by, above 0; None for nothing
    cut            what `layout` says of the lengths, if it was asked before
    shape          how `_maxsim` cuts up its work; then `maxsim_stream` is not considered
    precision      how float32 is multiplied, see `colreduce.maxsim.triton_parts`
    """
    queries, documents = len(query_lengths), len(lengths)
    scores = torch.empty(queries, documents, dtype=torch.float32, device=tokens.device)
    if not documents:
        return scores
    query, tokens = query.float().contiguous(), tokens.contiguous()
    ends = query_lengths.cumsum(0)
    if shape is None and _streams(query, query_lengths, tokens, precision):
        cut = cut or layout(lengths)
        return maxsim_stream(query, ends, tokens, documents, cut, scales, precision=precision)
    shape = shape or SHAPES[tokens.dtype]
    width = tokens.shape[1]
    lanes = min(max(power(-(-len(tokens) // documents)), LEAST), shape.rows)
    together = shape.rows // lanes
    grid = (queries * -(-documents // together),)
    longest = min(power(-(-len(query) // queries)), MOST_QUERY)
    with torch.cuda.device_of(tokens):
        _maxsim[grid](
            query,
            query.abs().amax(),
            ends,
            tokens,
            query if scales is None else scales.contiguous(),
            lengths.cumsum(0),
            scores,
            documents,
            queries,
            WIDTH=width,
            DEPTH=min(max(power(width), LEAST), shape.depth),
            QUERY=max(longest, LEAST),
            LANES=lanes,
            TOGETHER=together,
            SCALED=scales is not None,
            PRECISION=precision,
            num_warps=shape.warps,
            num_stages=shape.stages,
        )
    return scores


def _streams(query: Tensor, query_lengths: Tensor, tokens: Tensor, precision: str) -> bool:
    """Say whether there are so many vectors that it pays to let them stream by the query."""
    if tokens.shape[1] > MOST_WIDTH or len(tokens) < WORTH_STREAMING:
        return False
    if tokens.dtype == torch.float32 and precision == "ieee":  # takes more room than there is
        return False
    return len(query) <= MOST_QUERY or int(query_lengths.max()) <= MOST_QUERY


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _maxsim(  # type: ignore[no-untyped-def]
    given,
    largest,
    query_ends,
    tokens,
    scales,
    ends,
    scores,
    documents,
    queries,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    QUERY: tl.constexpr,
    LANES: tl.constexpr,
    TOGETHER: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Score one query against ``TOGETHER`` documents, ``LANES`` vectors of each at a time."""
    # Queries turn fastest: those that follow find the documents in the cache.
    query = tl.program_id(0) % queries
    numbers = tl.program_id(0) // queries * TOGETHER + tl.arange(0, TOGETHER)
    there = numbers < documents
    starts = tl.load(ends + numbers - 1, mask=there & (numbers > 0), other=0)
    lengths = tl.load(ends + numbers, mask=there, other=0) - tl.where(there, starts, 0)
    longest = tl.max(lengths, axis=0)
    first = tl.load(query_ends + query - 1, mask=query > 0, other=0)
    last = tl.load(query_ends + query)
    factor, inverse = leading(tl.load(largest))
    total = tl.zeros([TOGETHER], tl.float32)
    for start in range(first, last, QUERY):
        asked = start + tl.arange(0, QUERY)
        known = asked < last
        best = tl.full([TOGETHER, QUERY], float("-inf"), tl.float32)
        for step in range(0, longest, LANES):
            lane = step + tl.arange(0, LANES)
            place = tl.reshape(starts[:, None] + lane[None, :], [TOGETHER * LANES])
            inside = tl.reshape(lane[None, :] < lengths[:, None], [TOGETHER * LANES])
            products = _products(
                given, inverse, asked, known, tokens, place, inside, WIDTH, DEPTH, PRECISION
            )
            if SCALED:
                scale = tl.load(scales + place, mask=inside, other=0).to(tl.float32)
                products *= scale[:, None]
            products = tl.where(inside[:, None], products, float("-inf"))
            shaped = tl.reshape(products, [TOGETHER, LANES, QUERY])
            best = tl.maximum(best, tl.max(shaped, axis=1))
        total += tl.sum(tl.where(known[None, :], best * factor, 0.0), axis=1)
    tl.store(scores + query.to(tl.int64) * documents + numbers, total, mask=there)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _products(  # type: ignore[no-untyped-def]
    given,
    inverse,
    asked,
    known,
    tokens,
    place,
    inside,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Multiply the stored rows at ``place`` with the query's vectors ``asked`` for."""
    products = tl.zeros([place.shape[0], asked.shape[0]], tl.float32)
    for depth in range(0, WIDTH, DEPTH):
        column = depth + tl.arange(0, DEPTH)
        there = column < WIDTH
        block = tl.load(
            tokens + place[:, None] * WIDTH + column[None, :],
            mask=inside[:, None] & there[None, :],
            other=0,
        )
        against = tl.load(
            given + asked[None, :] * WIDTH + column[:, None],
            mask=known[None, :] & there[:, None],
            other=0,
        )
        products = multiplied(block, against * inverse, products, PRECISION)
    return products
