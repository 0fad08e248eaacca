"""MaxSim in one pass over the stored vectors, on a CUDA device: no similarity leaves the chip.

A program takes some documents and one query. It reads the documents' vectors in the type they are
stored in, multiplies them with the query's on the tensor cores, keeps the largest product of each
query vector, and writes one number per document. What moves is what is stored.

float16, bfloat16 and int8 numbers are exact in the type they are multiplied in. The query is not,
so it is taken apart into two or three such numbers that add up to it, and all of them are
multiplied: the scores are as near to the exact ones as products of float32 are. float32 vectors
are multiplied in float32, and TF32 is never used in its place.

With ``TRITON_INTERPRET=1`` the same code runs on CPU, number by number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

# Query vectors that a program holds at a time; of a longer query it takes some after the others.
MOST_QUERY = 64
# What the tensor cores take at least, in every direction.
LEAST = 16
# In how many numbers of this type a query's float32 numbers are taken apart.
PARTS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3, torch.int8: 2}


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
    torch.float32: Shape(64, 32),
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
    shape: Shape | None = None,
    precision: str = "ieee",
) -> Tensor:
    """Score queries against packed documents: [queries, n] float32.

    query          [q, d]  the vectors of all queries end to end, any float type
    query_lengths  [queries] int64
    tokens         [t, d]  float32, float16, bfloat16 or int8
    lengths        [n]     int64, vectors per document, none of them 0
    scales         [t]     what each vector is multiplied by, above 0; None for nothing
    precision      how float32 is multiplied: ieee, or tf32x3, which comes near to it
    """
    queries, documents = len(query_lengths), len(lengths)
    scores = torch.empty(queries, documents, dtype=torch.float32, device=tokens.device)
    if not documents:
        return scores
    parts, factor = taken_apart(query, tokens.dtype)
    shape = shape or SHAPES[tokens.dtype]
    width = tokens.shape[1]
    lanes = min(max(_power(-(-len(tokens) // documents)), LEAST), shape.rows)
    together = shape.rows // lanes
    grid = (queries * -(-documents // together),)
    longest = min(_power(-(-len(query) // queries)), MOST_QUERY)
    with torch.cuda.device_of(tokens):
        _maxsim[grid](
            parts,
            len(query),
            query_lengths.cumsum(0),
            tokens.contiguous(),
            parts if scales is None else scales.contiguous(),
            lengths.cumsum(0),
            scores,
            documents,
            queries,
            WIDTH=width,
            DEPTH=min(max(_power(width), LEAST), shape.depth),
            QUERY=max(longest, LEAST),
            LANES=lanes,
            TOGETHER=together,
            PARTS=len(parts),
            SCALED=scales is not None,
            PRECISION=precision,
            num_warps=shape.warps,
            num_stages=shape.stages,
        )
    return scores.mul_(factor)


def taken_apart(query: Tensor, stored: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return numbers [parts, q, d] of the type that is multiplied, and a factor.

    The parts add up to the query's numbers divided by the factor, a power of two: numbers far from
    1 would not fit into float16, or lose their last bits there.
    """
    rest = query.float()
    kind = torch.float16 if stored == torch.int8 else stored
    if kind == torch.float32:
        return rest.contiguous()[None], torch.ones((), device=query.device)
    largest = rest.abs().amax() if rest.numel() else rest.new_ones(())
    factor = torch.exp2(torch.frexp(largest).exponent.clamp(-100, 100).float())
    rest = rest / factor
    parts = []
    for _ in range(PARTS[stored]):
        parts.append(rest.to(kind))
        rest = rest - parts[-1].float()
    return torch.stack(parts), factor


def _power(number: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _maxsim(  # type: ignore[no-untyped-def]
    parts,
    query_rows,
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
    PARTS: tl.constexpr,
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
                parts,
                query_rows,
                asked,
                known,
                tokens,
                place,
                inside,
                WIDTH,
                DEPTH,
                PARTS,
                PRECISION,
            )
            if SCALED:
                factor = tl.load(scales + place, mask=inside, other=0).to(tl.float32)
                products *= factor[:, None]
            products = tl.where(inside[:, None], products, float("-inf"))
            shaped = tl.reshape(products, [TOGETHER, LANES, QUERY])
            best = tl.maximum(best, tl.max(shaped, axis=1))
        total += tl.sum(tl.where(known[None, :], best, 0.0), axis=1)
    tl.store(scores + query.to(tl.int64) * documents + numbers, total, mask=there)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _products(  # type: ignore[no-untyped-def]
    parts,
    query_rows,
    asked,
    known,
    tokens,
    place,
    inside,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    PARTS: tl.constexpr,
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
        ).to(parts.dtype.element_ty)
        for part in tl.static_range(PARTS):
            rows = part * query_rows + asked
            against = tl.load(
                parts + rows[None, :] * WIDTH + column[:, None],
                mask=known[None, :] & there[:, None],
                other=0,
            )
            products = tl.dot(block, against, products, input_precision=PRECISION)
    return products
