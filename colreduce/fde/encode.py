"""Encoding: sums for queries; means, with empty blocks filled, for documents.

Exactly section 2 of MUVERA (arXiv 2405.19504): the product of a query's and a document's encoding
approximates ``repetitions`` times their MaxSim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colreduce.device import has_triton
from colreduce.errors import BadInput, ShapeMismatch
from colreduce.fde.config import FdeConfig
from colreduce.fde.groups import grouped_sums, stable_order
from colreduce.fde.partition import block_numbers, draw_planes
from colreduce.fde.project import draw_final, draw_inner, project_tokens, project_whole
from colreduce.method import State
from colreduce.ragged import Ragged

# Work space of one step: its narrowed tokens and its encodings stay in a CPU's cache or near it.
CPU_FLOATS = 1 << 22
GPU_FLOATS = 1 << 28

# Tokens of one document, a power of two: places in a document and Hamming distances share an int32.
MOST_TOKENS = 1 << 20
NOWHERE = 1 << 30


def draw(config: FdeConfig, seed: int, centre: Tensor | None = None) -> dict[str, Tensor]:
    """Draw everything random that documents and queries must share.

    ``centre`` [d] is subtracted from tokens before they are hashed, and from nothing else: the
    vectors that are added up stay as they are, or products would no longer approximate MaxSim.
    """
    # One stream for each purpose, so that a longer draw of one leaves the others as they were.
    planes, inner, final = (np.random.default_rng([seed, purpose]) for purpose in range(3))
    state = {"planes": draw_planes(config, planes)}
    if config.projects:
        state["inner"] = draw_inner(config, inner)
    if config.final_dim is not None:
        state.update(draw_final(config, final))
    if centre is not None:
        state["centre"] = centre.detach().float().cpu()
    return state


def encode_documents(batch: Ragged, config: FdeConfig, state: State) -> Tensor:
    """Encode all documents of a batch: [n, f] float32, on the device of the batch.

    Where ``batch.weights`` say how many tokens each vector stands for, block means are weighted.
    """
    return torch.cat(list(document_blocks(batch, config, state)))


def document_blocks(
    batch: Ragged, config: FdeConfig, state: State, *, floats: int | None = None
) -> Iterator[Tensor]:
    """Encode documents some at a time: ``[c, f]`` blocks in the order of the documents.

    ``floats`` bounds the work space of one block, in numbers; one document at least is taken.
    """
    _check(batch, config)
    if not len(batch):
        yield torch.zeros(0, config.width, device=batch.device)
        return
    for part in _parts(batch, config, floats):
        if _fuses(part, config):
            yield _finished(_fused(part, config, state, documents=True), config, state)
        else:
            yield _finish(_document_sums(part, config, state), config, state)


def encode_queries(batch: Ragged, config: FdeConfig, state: State) -> Tensor:
    """Encode queries: block sums, and empty blocks stay 0: [n, f] float32."""
    _check(batch, config)
    if not len(batch):
        return torch.zeros(0, config.width, device=batch.device)
    encoded = [
        _finished(_fused(part, config, state, documents=False), config, state)
        if _fuses(part, config)
        else _finish(_grouped(part, config, state).sums(None), config, state)
        for part in _parts(batch, config, None)
    ]
    return torch.cat(encoded)


def _check(batch: Ragged, config: FdeConfig) -> None:
    if batch.dim != config.dim:
        raise ShapeMismatch(f"these vectors are {batch.dim} wide; the encoding takes {config.dim}")
    if len(batch) and int(batch.lengths.min()) < 1:
        empty = int(torch.nonzero(batch.lengths == 0)[0])
        raise BadInput(f"item {empty} has no vectors, so it has no encoding", field="vectors")
    if len(batch) and int(batch.lengths.max()) >= MOST_TOKENS:
        raise BadInput(
            f"an item has {int(batch.lengths.max())} vectors; wanted under {MOST_TOKENS}"
        )


def _parts(batch: Ragged, config: FdeConfig, floats: int | None) -> Iterator[Ragged]:
    """Split a batch so that neither narrowed tokens nor encodings pass the work space."""
    room = floats or (CPU_FLOATS if batch.device.type == "cpu" else GPU_FLOATS)
    tokens = max(room // (config.repetitions * config.block_dim), 1)
    # On a CPU, keys of item and block below 2**16 take the quick sort.
    keys = 1 << (16 if batch.device.type == "cpu" else 30)
    items = max(min(room // config.inner_width, keys // config.blocks), 1)
    ends = batch.lengths.cumsum(0).cpu().numpy()
    start = used = 0
    while start < len(ends):
        stop = int(np.searchsorted(ends, used + tokens, side="right"))
        stop = min(max(stop, start + 1), start + items)
        end = int(ends[stop - 1])
        weights = None if batch.weights is None else batch.weights[used:end]
        yield Ragged(batch.tokens[used:end], batch.lengths[start:stop], weights=weights)
        start, used = stop, end


def _finish(sums: Tensor, config: FdeConfig, state: State) -> Tensor:
    """Lay the blocks of all repetitions end to end: [r, n, b, w] -> [n, f]."""
    return _finished(sums.transpose(0, 1), config, state)


def _finished(sums: Tensor, config: FdeConfig, state: State) -> Tensor:
    """Lay the blocks of all repetitions end to end: [n, r, b, w] -> [n, f]."""
    encodings = sums.reshape(len(sums), config.inner_width)
    return encodings if config.final_dim is None else project_whole(encodings, config, state)


def _fuses(batch: Ragged, config: FdeConfig) -> bool:
    """Say whether a device adds up documents in a program for each partition."""
    if batch.device.type == "cpu" or not has_triton():
        return False
    from colreduce.fde import triton_blocks

    return (
        config.blocks <= triton_blocks.MOST_BLOCKS and config.block_dim <= triton_blocks.MOST_WIDTH
    )


def _fused(batch: Ragged, config: FdeConfig, state: State, *, documents: bool) -> Tensor:
    """Return sums for queries, or filled means for documents: [n, r, b, w]."""
    from colreduce.fde import triton_blocks

    tokens = batch.tokens.float()
    numbers = block_numbers(tokens, state["planes"], state.get("centre"))
    rows = project_tokens(tokens, config, state["inner"]) if config.projects else tokens[:, None]
    weights = batch.weights.float() if documents and batch.weights is not None else None
    return triton_blocks.block_sums(
        rows,
        numbers,
        batch.lengths,
        config.blocks,
        weights=weights,
        mean=documents,
        fill=documents and config.fill,
    )


@dataclass(frozen=True, slots=True)
class _Grouped:
    """A batch's tokens, narrowed and in the order of (repetition, item, block).

    rows    [t, r, w]   narrowed tokens; [t, 1, d] when nothing is narrowed
    order   [r, t]      tokens of each repetition, by item and block, then by place
    counts  [r, n, b]   tokens in each block
    """

    rows: Tensor
    order: Tensor
    counts: Tensor

    @property
    def starts(self) -> Tensor:
        """Return where each block's tokens start in the order of all repetitions: [r * n * b]."""
        flat = self.counts.flatten()
        return flat.cumsum(0) - flat

    def row_of(self, tokens: Tensor, repetitions: Tensor) -> Tensor:
        """Return the rows that hold these tokens, narrowed for these repetitions."""
        copies = self.rows.shape[1]
        return tokens * copies + (repetitions if copies > 1 else 0)

    def sums(self, weights: Tensor | None) -> Tensor:
        """Add up each block's tokens: [r, n, b, w]."""
        repetitions = torch.arange(len(self.order), device=self.order.device)[:, None]
        members = self.row_of(self.order, repetitions).flatten()
        each = None if weights is None else weights[self.order].flatten()
        summed = grouped_sums(self.rows.flatten(0, 1), members, self.starts, each)
        return summed.view(*self.counts.shape, -1)


def _grouped(batch: Ragged, config: FdeConfig, state: State) -> _Grouped:
    """Narrow the tokens and put them in the order of their blocks."""
    tokens = batch.tokens.float()
    numbers = block_numbers(tokens, state["planes"], state.get("centre"))
    rows = project_tokens(tokens, config, state["inner"]) if config.projects else tokens[:, None]
    keys = (batch.item_of.int()[:, None] * config.blocks + numbers).T.contiguous()
    groups = len(batch) * config.blocks
    shifted = keys + torch.arange(len(keys), device=keys.device)[:, None] * groups
    counts = torch.bincount(shifted.flatten(), minlength=len(keys) * groups)
    return _Grouped(
        rows.contiguous(),
        stable_order(keys, groups),
        counts.view(len(keys), len(batch), config.blocks),
    )


def _document_sums(batch: Ragged, config: FdeConfig, state: State) -> Tensor:
    """Average the tokens of each block and fill the empty ones: [r, n, b, w]."""
    grouped = _grouped(batch, config, state)
    weights = None if batch.weights is None else batch.weights.float()
    means = grouped.sums(weights)
    if weights is None:
        mass = grouped.counts.float()
    else:
        members = grouped.order.flatten()
        mass = grouped_sums(weights[:, None], members, grouped.starts).view(grouped.counts.shape)
    means /= torch.where(grouped.counts > 0, mass, 1)[..., None]
    if config.fill and config.bits:
        _fill(means, grouped, batch.offsets[:-1])
    return means


def _fill(means: Tensor, grouped: _Grouped, item_starts: Tensor) -> None:
    """Lend each empty block the token whose code differs from its number in the fewest bits.

    A query token that falls in an empty block would be compared with nothing. Of several tokens
    that are equally near, the first in the document is taken. Documents only: a borrowed query
    token would count twice.
    """
    repetitions, items, blocks = grouped.counts.shape
    empty = grouped.counts == 0
    # The first token of every block, as its place in the document.
    at = torch.where(empty, 0, grouped.starts.view(grouped.counts.shape))
    first = grouped.order.flatten()[at] - item_starts[:, None]
    near = torch.where(empty, NOWHERE, first).int()
    # near = distance * MOST_TOKENS + place. Hamming distance is a sum over bits, so the least over
    # all blocks is reached by going along one bit after the other.
    for bit in range(blocks.bit_length() - 1):
        pairs = near.view(repetitions, items, -1, 2, 1 << bit)
        near = torch.minimum(pairs, pairs.flip(3) + MOST_TOKENS).view(near.shape)
    where = torch.nonzero(empty, as_tuple=True)
    tokens = item_starts[where[1]] + (near[where] & (MOST_TOKENS - 1))
    means[where] = grouped.rows.flatten(0, 1)[grouped.row_of(tokens, where[0])]
