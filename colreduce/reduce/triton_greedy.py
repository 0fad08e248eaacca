"""Choices one after the other on a CUDA device, a document to each program.

A program takes all turns of its document without asking anybody, and comes to the same tokens as
the steps for all documents at once do (`colreduce.reduce.greedy`, `colreduce.reduce.spread`),
without the dozens of launches that every turn costs there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Longer documents do not fit a program's registers.
LONGEST = 4096
# Numbers of the table that a program holds at a time.
HELD = 4096


def facility_location(
    table: Tensor, nothing: Tensor, counts: Tensor, lengths: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Pick tokens; return the turn of each and the turn of the pick nearest to it: [b, l] int64.

    table    [b, l, l] int32, products of all tokens with one another
    nothing  [b] int32, what a token has while nothing is picked
    counts   [b, l] int64, how much each token counts, 0 for padding
    lengths  [b], sizes [b]  tokens there are, and how many to pick
    """
    turn = torch.full(counts.shape, -1, dtype=torch.int64, device=table.device)
    owner = torch.full_like(turn, -1)
    listed = torch.empty(counts.shape, dtype=torch.int32, device=table.device)
    best = torch.empty_like(listed)
    block = 1 << max(table.shape[1] - 1, 0).bit_length()
    with torch.cuda.device_of(table):
        _facility_location[(len(table),)](
            table,
            nothing,
            counts,
            lengths,
            sizes,
            turn,
            owner,
            listed,
            best,
            table.shape[1],
            BLOCK=block,
            ROWS=max(min(HELD // block, 16), 1),
            num_warps=max(min(block // 256, 8), 1),
        )
    return turn, owner


def spread(
    table: Tensor, own: Tensor, share: float, first: Tensor, lengths: Tensor, sizes: Tensor
) -> Tensor:
    """Mark tokens chosen one after the other, each by the most that it adds: [b, l] bool.

    What a token adds is ``own`` [b, l] float64 less ``share`` of its product in ``table`` [b, l, l]
    float32 with the nearest token chosen. The first ones [b] are given.
    """
    chosen = torch.zeros(own.shape, dtype=torch.int8, device=table.device)
    block = 1 << max(table.shape[1] - 1, 0).bit_length()
    with torch.cuda.device_of(table):
        _spread[(len(table),)](
            table,
            own.contiguous(),
            torch.full((1,), share, dtype=torch.float64, device=table.device),
            first,
            lengths,
            sizes,
            chosen,
            table.shape[1],
            BLOCK=block,
            num_warps=max(min(block // 256, 8), 1),
        )
    return chosen.bool()


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _facility_location(  # type: ignore[no-untyped-def]
    table,
    nothing,
    counts,
    lengths,
    sizes,
    turn,
    owner,
    listed,
    best,
    width,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Pick for one document.

    In every turn the best gain is found, the tokens that the pick brought nearer are listed, and
    what they took from every other gain is taken off, row by row of the table.
    """
    item = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths + item)
    table += item * width * width
    counts += item * width
    turn += item * width
    owner += item * width
    listed += item * width
    best += item * width
    token = tl.arange(0, BLOCK)
    there = token < length
    bare = tl.load(nothing + item)
    held = tl.full([BLOCK], 0, tl.int32) + bare
    gains = _first_gains(table, counts, bare, length, token, there, width, ROWS)
    for step in range(0, tl.load(sizes + item)):
        pick = tl.argmax(gains, axis=0)
        nearer = tl.maximum(held, tl.load(table + pick * width + token, mask=there, other=bare))
        risen = (nearer > held) & there
        tl.store(owner + token, tl.full([BLOCK], 0, tl.int64) + step, mask=risen | (token == pick))
        tl.store(turn + pick, step)
        gains = tl.where(token == pick, -1, gains)
        # The list of those that came nearer, with what they had, for the loop to read.
        number = tl.cumsum(risen.to(tl.int32), axis=0)
        tl.debug_barrier()
        tl.store(listed + number - 1, token, mask=risen)
        tl.store(best + token, held, mask=there)
        tl.debug_barrier()
        count = tl.max(number, axis=0)
        lost = tl.zeros([BLOCK], tl.int64)
        for begin in range(0, count, ROWS):
            place = begin + tl.arange(0, ROWS)
            some = place < count
            risers = tl.load(listed + place, mask=some, other=0)
            old = tl.load(best + risers, mask=some, other=0)
            new = tl.load(table + pick * width + risers, mask=some, other=0)
            worth = _rows(table, risers, some, token, there, width)
            less = tl.maximum(worth - old[:, None], 0) - tl.maximum(worth - new[:, None], 0)
            much = tl.load(counts + risers, mask=some, other=0)
            lost += tl.sum(less.to(tl.int64) * much[:, None], axis=0)
        gains = tl.where(gains == -1, -1, gains - lost)
        held = nearer


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _first_gains(  # type: ignore[no-untyped-def]
    table, counts, bare, length, token, there, width, ROWS: tl.constexpr
):
    """Return what each token adds while nothing is picked; -1 for padding."""
    gains = tl.zeros([token.shape[0]], tl.int64)
    for start in range(0, length, ROWS):
        rows = start + tl.arange(0, ROWS)
        some = rows < length
        worth = _rows(table, rows, some, token, there, width)
        much = tl.load(counts + rows, mask=some, other=0)
        gains += tl.sum((worth - bare).to(tl.int64) * much[:, None], axis=0)
    return tl.where(there, gains, -1)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _rows(table, rows, some, token, there, width):  # type: ignore[no-untyped-def]
    """Return some rows of a document's table: [rows, tokens]."""
    where = rows[:, None].to(tl.int64) * width + token[None, :]
    return tl.load(table + where, mask=some[:, None] & there[None, :], other=0)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _spread(  # type: ignore[no-untyped-def]
    table, own, share, first, lengths, sizes, chosen, width, BLOCK: tl.constexpr
):
    """Choose for one document."""
    item = tl.program_id(0).to(tl.int64)
    table += item * width * width
    token = tl.arange(0, BLOCK)
    there = token < tl.load(lengths + item)
    worth = tl.load(own + item * width + token, mask=there, other=float("-inf"))
    part = tl.load(share)
    nearest = tl.full([BLOCK], float("-inf"), tl.float32)
    marks = tl.zeros([BLOCK], tl.int8)
    last = tl.load(first + item).to(tl.int32)
    for _ in range(0, tl.load(sizes + item)):
        marks = tl.where(token == last, 1, marks).to(tl.int8)
        worth = tl.where(token == last, float("-inf"), worth)
        row = tl.load(table + last * width + token, mask=there, other=0)
        nearest = tl.maximum(nearest, row)
        last = tl.argmax(worth - part * nearest.to(tl.float64), axis=0)
    tl.store(chosen + item * width + token, marks, mask=there)
