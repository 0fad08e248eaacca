"""Scores of some documents out of many, on a CPU, straight from where their vectors are mapped.

For codes that are numbers. The documents asked for lie scattered, so their vectors are laid end to
end first: widened to float32 on the way, and no more of them at a time than stay in the cache. All
of that is one native call for a block of documents.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from colreduce.errors import ShapeMismatch
from colreduce.native import ROOMS, bits, kernels
from colreduce.ragged import runs
from colreduce.threads import side_by_side

# Numbers laid out at a time stay in the cache: 256 KB.
ROOM_NUMBERS = 1 << 16

# Numbers scored between two looks at whether anybody still waits: a millisecond or two.
BLOCK_NUMBERS = 1 << 21

# From so many blocks on, several are scored at a time.
MANY = 4


class RowScorer:
    """Documents whose vectors are numbers; it takes what `colreduce.native.has_numba` speaks of."""

    def __init__(self, tokens: Tensor, scales: Tensor | None, offsets: NDArray[np.int64]) -> None:
        """Score vectors [t, d] on the CPU; document n has those from offsets[n] to offsets[n+1].

        tokens  float32, float16, or int8 with ``scales`` [t] float16
        """
        # Native code looks at no bounds.
        if int(offsets[-1]) > len(tokens):
            raise ShapeMismatch(f"{int(offsets[-1])} vectors are counted; there are {len(tokens)}")
        self._tokens = bits(tokens)
        self._scales = np.empty(0, np.int16) if scales is None else bits(scales)
        self._offsets = offsets

    def scores(
        self, query: Tensor, rows: NDArray[np.int64], check: Callable[[], None] = lambda: None
    ) -> NDArray[np.float32]:
        """Score a query [q, d] against some documents; ``check`` is called before every block."""
        queries, dim = query.shape
        if dim != self._tokens.shape[1]:
            raise ShapeMismatch(
                f"the query is {dim} wide; the stored vectors are {self._tokens.shape[1]} wide"
            )
        columns = np.zeros((dim, -(-queries // kernels().WIDE) * kernels().WIDE), np.float32)
        columns[:, :queries] = query.numpy().T
        lengths = self._offsets[rows + 1] - self._offsets[rows]
        scores = np.empty(len(rows), np.float32)

        def score(block: tuple[int, int]) -> None:
            check()
            some = slice(*block)
            room = max(ROOM_NUMBERS // dim, int(lengths[some].max())) + kernels().ROWS
            self._score(columns, queries, rows[some], room, scores[some])

        blocks = list(runs(lengths, BLOCK_NUMBERS // dim))
        if len(blocks) < MANY:
            for block in blocks:
                score(block)
        else:
            side_by_side(blocks, score, "maxsim")
        return scores

    def _score(
        self,
        columns: NDArray[np.float32],
        queries: int,
        rows: NDArray[np.int64],
        room: int,
        scores: NDArray[np.float32],
    ) -> None:
        dim, width = columns.shape
        with ROOMS.lend(room * (dim + width) + queries) as numbers:
            kernels().maxsim(
                self._tokens,
                self._scales,
                self._offsets,
                rows,
                columns,
                numbers[: room * dim].reshape(room, dim),
                numbers[room * dim : -queries].reshape(room, width),
                numbers[-queries:],
                scores,
            )
