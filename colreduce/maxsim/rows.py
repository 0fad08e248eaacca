"""Scores of some documents out of many, on a CPU, straight from where their vectors are mapped.

For codes that are numbers. The documents asked for lie scattered, so their vectors are laid end to
end first: widened to float32 on the way, and no more of them at a time than stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.native import ROOMS, kernels
from colreduce.ragged import runs
from colreduce.threads import side_by_side

# Numbers laid out at a time: 2 MB.
BLOCK_NUMBERS = 1 << 19

# From so many blocks on, several are scored at a time.
MANY = 8


class RowScorer:
    """Documents whose vectors are numbers; it takes what `colreduce.native.has_numba` speaks of."""

    def __init__(self, tokens: Tensor, scales: Tensor | None, offsets: NDArray[np.int64]) -> None:
        """Score vectors [t, d] on the CPU; document n has those from offsets[n] to offsets[n+1].

        tokens  float32, float16, or int8 with ``scales`` [t] float16
        """
        gathers = {
            torch.float32: kernels().gather_floats,
            torch.float16: kernels().gather_halves,
            torch.int8: kernels().gather_steps,
        }
        self._gather: Callable[..., None] = gathers[tokens.dtype]
        self._tokens = _bits(tokens)
        self._scales = np.empty(0, np.int16) if scales is None else _bits(scales)
        self._offsets = offsets

    def scores(
        self, query: Tensor, rows: NDArray[np.int64], check: Callable[[], None] = lambda: None
    ) -> NDArray[np.float32]:
        """Score a query [q, d] against some documents; ``check`` is called before every block."""
        columns = torch.from_numpy(np.ascontiguousarray(query.numpy().T, dtype=np.float32))
        lengths = self._offsets[rows + 1] - self._offsets[rows]
        scores = np.empty(len(rows), np.float32)

        def score(block: tuple[int, int]) -> None:
            check()
            some = slice(*block)
            self._score(columns, rows[some], int(lengths[some].sum()), scores[some])

        blocks = list(runs(lengths, BLOCK_NUMBERS // len(columns)))
        if len(blocks) < MANY:
            for block in blocks:
                score(block)
        else:
            side_by_side(blocks, score, "maxsim")
        return scores

    def _score(
        self, columns: Tensor, rows: NDArray[np.int64], count: int, scores: NDArray[np.float32]
    ) -> None:
        dim, queries = columns.shape
        # Laid out by numpy: unlike torch it does not let go of Python's lock for every view.
        with ROOMS.lend(count * (dim + queries) + queries) as room:
            tokens = room[: count * dim].reshape(count, dim)
            products = room[count * dim : -queries].reshape(count, queries)
            self._gather(self._tokens, self._scales, self._offsets, rows, tokens)
            torch.get_num_threads()  # without it, a fresh thread multiplies on all cores there are
            torch.mm(torch.from_numpy(tokens), columns, out=torch.from_numpy(products))
            kernels().maxsim_runs(products, self._offsets, rows, room[-queries:], scores)


def _bits(numbers: Tensor) -> NDArray[Any]:
    """Return an array that kernels take, over the same bytes."""
    found: NDArray[Any] = (
        numbers.view(torch.int16) if numbers.dtype == torch.float16 else numbers
    ).numpy()
    return found
