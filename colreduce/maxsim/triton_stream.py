"""MaxSim over many documents on a CUDA device: the query waits on the chip, documents stream by.

A few programs per processor hold one query's vectors and take one group of documents after the
other, so that the next ones are on their way while these are multiplied. Documents that are longer
than a group has lanes come in pieces, whose best products meet in memory.

`colreduce.maxsim.triton_kernels` does the same for few documents, long queries and wide vectors,
without looking at the lengths first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from colreduce.maxsim.triton_parts import LEAST, PRECISION, leading, multiplied, power

# The longest query and the widest vectors that wait on the chip.
MOST_QUERY, MOST_WIDTH = 64, 128
# Fewer vectors than this are not worth looking at the lengths.
WORTH_STREAMING = 1 << 20


@dataclass(frozen=True, slots=True)
class Stream:
    """How a program cuts up its work.

    rows    document vectors multiplied at a time
    stages  groups that are on their way
    each    programs for each processor of the device
    """

    rows: int
    warps: int = 4
    stages: int = 3
    each: int = 2


STREAMS = {
    torch.float32: Stream(64, stages=2),
    torch.float16: Stream(64, stages=4),
    torch.bfloat16: Stream(64, stages=4),
    torch.int8: Stream(128, stages=4),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pieces of documents lie, found out once for all queries.

    count   how many pieces there are
    lanes   places for vectors that each is given
    length  vectors of every piece, if all are documents of one length; else 0
    starts, sizes [count] int64, owners [count] int64 the documents; None if all are of one length
    whole   whether every piece is a document
    """

    count: int
    lanes: int
    length: int
    starts: Tensor | None
    sizes: Tensor | None
    owners: Tensor | None
    whole: bool


def layout(lengths: Tensor, most: int = 64) -> Layout:
    """Cut documents of these lengths [n] int64 into pieces of at most ``most`` vectors."""
    shortest, longest = (int(one) for one in torch.stack(torch.aminmax(lengths)).tolist())
    if longest <= most:
        lanes = max(power(longest), LEAST)
        if shortest == longest:
            return Layout(len(lengths), lanes, longest, None, None, None, True)
        return Layout(len(lengths), lanes, 0, lengths.cumsum(0) - lengths, lengths, None, True)
    counts = (lengths + most - 1) // most
    owners = torch.repeat_interleave(counts)
    place = torch.arange(len(owners), device=lengths.device)
    place -= (counts.cumsum(0) - counts)[owners]
    starts = (lengths.cumsum(0) - lengths)[owners] + place * most
    sizes = (lengths[owners] - place * most).clamp_max(most)
    return Layout(len(owners), most, 0, starts, sizes, owners, False)


def maxsim_stream(
    query: Tensor,
    query_ends: Tensor,
    tokens: Tensor,
    documents: int,
    cut: Layout,
    scales: Tensor | None = None,
    *,
    stream: Stream | None = None,
    precision: str = PRECISION,
) -> Tensor:
    """Score queries [q, d] that end at ``query_ends`` against packed documents: [queries, n]."""
    stream = stream or STREAMS[tokens.dtype]
    queries, width = len(query_ends), tokens.shape[1]
    shape = (queries, documents) if cut.whole else (documents, len(query))
    found = torch.full(shape, 0.0 if cut.whole else -torch.inf, device=tokens.device)
    together = max(stream.rows // cut.lanes, 1)
    groups = -(-cut.count // together)
    programs = min(groups, max(stream.each * _processors(tokens.device) // queries, 1))
    query = query.contiguous()
    with torch.cuda.device_of(tokens):
        _stream[(programs * queries,)](
            query,
            query_ends,
            tokens,
            query if scales is None else scales,
            query_ends if cut.starts is None else cut.starts,
            query_ends if cut.sizes is None else cut.sizes,
            query_ends if cut.owners is None else cut.owners,
            found,
            cut.count,
            queries,
            programs,
            documents if cut.whole else len(query),
            cut.length,
            WIDTH=width,
            DEPTH=max(power(width), LEAST),
            QUERY=max(power(-(-len(query) // queries)), LEAST) if queries == 1 else MOST_QUERY,
            LANES=cut.lanes,
            TOGETHER=together,
            EQUAL=cut.length > 0,
            WHOLE=cut.whole,
            SCALED=scales is not None,
            PRECISION=precision,
            # Where pieces are looked up first, as many stages hold about half as many of them.
            STAGES=stream.stages if cut.length else 2 * stream.stages - 1,
            num_warps=stream.warps,
        )
    if cut.whole:
        return found
    ends = query_ends.tolist()
    parts = found.split([end - start for start, end in zip([0, *ends], ends, strict=False)], 1)
    return torch.stack([part.sum(1) for part in parts])


@cache
def _processors(device: torch.device) -> int:
    """Return how many multiprocessors a device has."""
    if device.type == "cpu":
        return 2  # in Triton's interpreter
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _stream(  # type: ignore[no-untyped-def]
    query,
    query_ends,
    tokens,
    scales,
    starts,
    sizes,
    owners,
    found,
    pieces,
    queries,
    programs,
    stride,
    length,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    QUERY: tl.constexpr,
    LANES: tl.constexpr,
    TOGETHER: tl.constexpr,
    EQUAL: tl.constexpr,
    WHOLE: tl.constexpr,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Score one query against every ``programs``-th group of ``TOGETHER`` pieces."""
    number = tl.program_id(0) % queries
    column = tl.arange(0, DEPTH)
    waiting, factor, asked, known = _waiting(query, query_ends, number, column, WIDTH, QUERY)
    for group in tl.range(
        tl.program_id(0) // queries, tl.cdiv(pieces, TOGETHER), programs, num_stages=STAGES
    ):
        piece = group * TOGETHER + tl.arange(0, TOGETHER)
        there = piece < pieces
        place, inside = _places(starts, sizes, piece, there, length, LANES, TOGETHER, EQUAL)
        block = tl.load(
            tokens + place[:, None] * WIDTH + column[None, :],
            mask=inside[:, None] & (column < WIDTH)[None, :],
            other=0,
        )
        nothing = tl.zeros([TOGETHER * LANES, QUERY], tl.float32)
        products = multiplied(block, waiting, nothing, PRECISION)
        if SCALED:
            scale = tl.load(scales + place, mask=inside, other=0).to(tl.float32)
            products *= scale[:, None]
        products = tl.where(inside[:, None], products, float("-inf"))
        best = tl.max(tl.reshape(products, [TOGETHER, LANES, QUERY]), axis=1) * factor
        if WHOLE:
            total = tl.sum(tl.where(known[None, :], best, 0.0), axis=1)
            tl.store(found + number.to(tl.int64) * stride + piece, total, mask=there)
        else:
            owner = tl.load(owners + piece, mask=there, other=0)
            where = found + owner[:, None] * stride + asked[None, :]
            tl.atomic_max(where, best, mask=there[:, None] & known[None, :], sem="relaxed")


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _waiting(  # type: ignore[no-untyped-def]
    query, query_ends, number, column, WIDTH: tl.constexpr, QUERY: tl.constexpr
):
    """Return a query's vectors as columns, divided by a factor, and which rows they are."""
    first = tl.load(query_ends + number - 1, mask=number > 0, other=0)
    asked = first + tl.arange(0, QUERY)
    known = asked < tl.load(query_ends + number)
    given = tl.load(
        query + asked[None, :] * WIDTH + column[:, None],
        mask=known[None, :] & (column < WIDTH)[:, None],
        other=0,
    ).to(tl.float32)
    factor, inverse = leading(tl.max(tl.max(tl.abs(given), axis=1), axis=0))
    return given * inverse, factor, asked, known


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _places(  # type: ignore[no-untyped-def]
    starts,
    sizes,
    piece,
    there,
    length,
    LANES: tl.constexpr,
    TOGETHER: tl.constexpr,
    EQUAL: tl.constexpr,
):
    """Return where the vectors of some pieces lie, and which lanes hold one."""
    lane = tl.arange(0, LANES)
    if EQUAL:
        begin, size = piece.to(tl.int64) * length, tl.where(there, length, 0)
    else:
        begin = tl.load(starts + piece, mask=there, other=0)
        size = tl.load(sizes + piece, mask=there, other=0)
    place = tl.reshape(begin[:, None] + lane[None, :], [TOGETHER * LANES])
    return place, tl.reshape(lane[None, :] < size[:, None], [TOGETHER * LANES])
