"""Stored vectors of a segment's documents, read where they are mapped.

A segment has one such set for its reduced vectors, and a second one for the vectors before any
reducer where the recipe keeps them to score the best documents once more.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.codec import CODECS
from colreduce.codec.base import Codec
from colreduce.maxsim.rows import RowScorer
from colreduce.native import has_numba
from colreduce.ragged import runs
from colreduce.recipe import Recipe

# What is kept of vectors before any reducer stands among a segment's arrays under this prefix.
WHOLE = "whole."

# Stored vectors scored at a time: the similarities of a block stay in the cache or near it.
BLOCK_VECTORS = 1 << 16

# Stored vectors of some documents, and how many belong to each.
Block: TypeAlias = "tuple[dict[str, Tensor], Tensor]"


def whole_codec(recipe: Recipe) -> Codec | None:
    """Return how a recipe keeps vectors before any reducer; None where it does not."""
    second = recipe.reranker.second
    if second is None:
        return None
    codec: Codec = CODECS[second.codec].build({})
    return codec


class Stored:
    """Arrays of codes that belong to documents."""

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        prefix: str,
        lengths: NDArray[Any],
        codec: Codec,
    ) -> None:
        """Take the arrays whose names begin with ``prefix``; ``lengths`` counts their rows."""
        self._codec = codec
        self.lengths = np.asarray(lengths).astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self.codes = {
            name.removeprefix(prefix): _shared(array)
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    @cached_property
    def numbers(self) -> RowScorer | None:
        """Return what scores documents in a few native calls; None where codes are no numbers."""
        numbers = self._codec.rows(self.codes) if has_numba() else None
        return None if numbers is None else RowScorer(*numbers, self.offsets)

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Block]:
        """Yield the stored vectors of ``rows`` and their lengths, some documents at a time."""
        lengths = self.lengths[rows]
        for start, stop in runs(lengths, BLOCK_VECTORS):
            where = self._where(rows[start:stop], lengths[start:stop])
            yield (
                {name: _picked(codes, where) for name, codes in self.codes.items()},
                torch.from_numpy(lengths[start:stop]),
            )

    def _where(
        self, rows: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> slice | NDArray[np.int64]:
        """Return where the vectors of ``rows`` lie: one slice if the rows are neighbours.

        A slice is read where it is mapped; only scattered vectors are copied.
        """
        if len(rows) == 1 or bool((np.diff(rows) == 1).all()):
            return slice(int(self.offsets[rows[0]]), int(self.offsets[rows[-1] + 1]))
        shift = self.offsets[rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return np.asarray(np.arange(int(lengths.sum())) + np.repeat(shift, lengths))


def joined(blocks: Iterator[Block]) -> Iterator[Block]:
    """Join neighbours that are small: scoring a block takes longer than copying a few vectors."""
    held: list[Block] = []
    vectors = 0
    for block in blocks:
        count = int(block[1].sum())
        if held and vectors + count > BLOCK_VECTORS // 4:
            yield _laid_out(held)
            held, vectors = [], 0
        held.append(block)
        vectors += count
    if held:
        yield _laid_out(held)


def _laid_out(blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    codes = {name: torch.cat([some[name] for some, _ in blocks]) for name in blocks[0][0]}
    return codes, torch.cat([lengths for _, lengths in blocks])


def _shared(array: NDArray[Any]) -> Tensor:
    """Return a mapped array as a tensor over the same bytes.

    The bytes are read-only and are only ever read; torch warns because it cannot know that.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _picked(codes: Tensor, where: slice | NDArray[np.int64]) -> Tensor:
    """Return some rows: neighbours as they are mapped, scattered ones copied."""
    if isinstance(where, slice):
        return codes[where]
    # Indexing a tensor of bytes by rows takes torch over ten times as long.
    return torch.from_numpy(np.take(codes.numpy(), where, axis=0))
