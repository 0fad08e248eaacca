"""Block sums of many documents on a CUDA device, without putting their tokens in order first.

A program takes one document and one partition. It adds up the document's tokens block by block, as
a product with zeros and ones, and lends empty blocks their token. Each document's sums are taken in
one order, whatever batch it is in.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# A program's registers hold no more blocks, and no wider ones.
MOST_BLOCKS, MOST_WIDTH = 64, 128
# Tokens multiplied at a time.
TOKENS = 32
# What a product takes at least, in every direction.
LEAST = 16


def block_sums(
    rows: Tensor,
    numbers: Tensor,
    lengths: Tensor,
    blocks: int,
    *,
    weights: Tensor | None = None,
    mean: bool = True,
    fill: bool = True,
) -> Tensor:
    """Return the sums or means of every document's blocks: [n, r, blocks, w] float32.

    rows     [t, r, w] float32, tokens narrowed for each partition; [t, 1, w] for all alike
    numbers  [t, r] int32, the block that each token falls in
    lengths  [n] int64
    weights  [t] float32, how much each token counts
    fill     lend each empty block the token nearest to it, as `colreduce.fde.encode` does
    """
    partitions, width = numbers.shape[1], rows.shape[2]
    shape = (len(lengths), partitions, blocks, width)
    found = torch.empty(shape, dtype=torch.float32, device=rows.device)
    with torch.cuda.device_of(rows):
        _block_sums[(len(lengths) * partitions,)](
            rows.contiguous(),
            numbers.contiguous(),
            lengths.cumsum(0),
            rows if weights is None else weights,
            found,
            partitions,
            COPIES=rows.shape[1],
            BLOCKS=blocks,
            ROOM=max(_power(blocks), LEAST),
            WIDTH=width,
            COLUMNS=max(_power(width), LEAST),
            TILE=TOKENS,
            WEIGHED=weights is not None,
            MEAN=mean,
            FILL=fill and blocks > 1,
            num_warps=2,
        )
    return found


def _power(number: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _block_sums(  # type: ignore[no-untyped-def]
    rows,
    numbers,
    ends,
    weights,
    found,
    partitions,
    COPIES: tl.constexpr,
    BLOCKS: tl.constexpr,
    ROOM: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
    WEIGHED: tl.constexpr,
    MEAN: tl.constexpr,
    FILL: tl.constexpr,
):
    """Add up one document's tokens in the blocks of one partition."""
    item, partition = tl.program_id(0) // partitions, tl.program_id(0) % partitions
    start = tl.load(ends + item - 1, mask=item > 0, other=0)
    end = tl.load(ends + item)
    copy = partition if COPIES > 1 else 0
    block, column = tl.arange(0, ROOM), tl.arange(0, COLUMNS)
    sums = tl.zeros([ROOM, COLUMNS], tl.float32)
    mass = tl.zeros([ROOM], tl.float32)
    first = tl.full([ROOM], 1 << 20, tl.int32)
    for begin in range(start, end, TILE):
        token = begin + tl.arange(0, TILE)
        there = token < end
        number = tl.load(numbers + token * partitions + partition, mask=there, other=-1)
        inside = number[None, :] == block[:, None]
        counts = inside.to(tl.float32)
        if WEIGHED:
            counts *= tl.load(weights + token, mask=there, other=0)[None, :]
        some = _taken(rows, token, there, copy, column, WIDTH, COPIES)
        sums = tl.dot(counts, some, sums, input_precision="ieee")
        mass += tl.sum(counts, axis=1)
        place = (token - start).to(tl.int32)
        first = tl.minimum(first, tl.min(tl.where(inside, place[None, :], 1 << 20), axis=1))
    empty = first == 1 << 20
    if MEAN:
        sums = tl.div_rn(sums, tl.where(empty, 1.0, mass)[:, None] + tl.zeros_like(sums))
    if FILL:
        near = _nearest(block, first, empty, BLOCKS)
        lends = empty & (block < BLOCKS)
        given = _taken(rows, start + near, lends, copy, column, WIDTH, COPIES)
        sums = tl.where(empty[:, None], given, sums)
    found += tl.program_id(0).to(tl.int64) * BLOCKS * WIDTH
    mask = (block < BLOCKS)[:, None] & (column < WIDTH)[None, :]
    tl.store(found + block[:, None] * WIDTH + column[None, :], sums, mask=mask)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _taken(  # type: ignore[no-untyped-def]
    rows, token, there, copy, column, WIDTH: tl.constexpr, COPIES: tl.constexpr
):
    """Return some tokens as they are narrowed for a partition, zeros for those not there."""
    where = rows + (token[:, None] * COPIES + copy) * WIDTH + column[None, :]
    return tl.load(where, mask=there[:, None] & (column < WIDTH)[None, :], other=0)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _nearest(block, first, empty, BLOCKS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the place of the token to lend to each block: of the nearest codes the first one."""
    differs = block[:, None] ^ block[None, :]
    distance = tl.zeros_like(differs)
    for bit in tl.static_range(6):
        distance += (differs >> bit) & 1
    taken = (empty | (block >= BLOCKS))[None, :]
    reach = tl.where(taken, 1 << 30, (distance << 20) + first[None, :])
    return tl.min(reach, axis=1) & ((1 << 20) - 1)
