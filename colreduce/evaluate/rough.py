"""Exact scores of the documents that may be among each query's best, and of no others.

Some CPUs multiply bfloat16 several times as fast as float32. Such a product is off by little, and
by how much at the most is known. So all documents are scored roughly; one whose score, with all
that it may be off, does not reach the best so far needs no exact one. The best are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.evaluate.scoring import BLOCK_SIMILARITIES, QUERY_VECTORS, dense, score_all
from colreduce.maxsim import bfloat16_runs_max
from colreduce.native import has_numba
from colreduce.ragged import Ragged, runs

# Narrower vectors are multiplied so quickly that there is nothing to gain.
WIDE = 256

# What rounding to bfloat16 changes at most, as a share of the rounded number.
ROUNDING = 1 / 255
# The same, and more, for each step of sums over a vector's numbers and over a query's vectors.
STEP = 2.0**-22

Hide = Callable[[NDArray[np.float32]], None]


def best_scores(
    queries: Ragged,
    tokens: Tensor,
    lengths: NDArray[np.int64],
    least: NDArray[np.float32],
    depth: int,
    hide: Hide = lambda scores: None,
    *,
    roughly_first: bool | None = None,
) -> NDArray[np.float32]:
    """Score every query against documents [t, d]: [queries, n], exactly or -inf.

    least          [queries]  what a score must reach to be among the best ``depth`` of all
    hide           writes -inf in the place of documents that a query must not find
    roughly_first  leave out those that cannot be among the best; None for where that is quicker
    """
    if not (_pays(tokens) if roughly_first is None else roughly_first):
        scores = score_all(queries, lengths, dense(tokens))
        hide(scores)
        return scores
    parts = [
        roughly(queries.take(slice(first, last)), tokens, lengths)
        for first, last in runs(queries.lengths.numpy(), QUERY_VECTORS)
    ]
    rough, off = (np.concatenate(some) for some in zip(*parts, strict=True))
    low, high = rough - off, rough + off
    hide(low)
    hide(high)
    if depth < len(lengths):
        reached = np.partition(low, len(lengths) - depth, axis=1)[:, len(lengths) - depth]
        least = np.maximum(least, reached)
    wanted = (high >= least[:, None]) & (high > -np.inf)
    return _settled(wanted, queries, tokens, lengths)


@cache
def _multiplies_bfloat16() -> bool:
    """Say whether this CPU has units that multiply matrices of bfloat16."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(told.get("amx_bf16")) and has_numba()


def _pays(tokens: Tensor) -> bool:
    on_cpu = tokens.device.type == "cpu" and tokens.dtype == torch.float32
    return on_cpu and tokens.shape[1] >= WIDE and _multiplies_bfloat16()


def roughly(
    queries: Ragged, tokens: Tensor, lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rough scores and how far each is off at the most: [queries, n] both."""
    asked = queries.tokens.bfloat16()
    columns, offsets = asked.T.contiguous(), np.concatenate([[0], np.cumsum(lengths)])
    best = np.empty((len(lengths), len(asked)), dtype=np.float32)
    sizes, errors = np.empty(len(tokens), np.float32), np.empty(len(tokens), np.float32)
    for first, last in runs(lengths, max(BLOCK_SIMILARITIES // len(asked), 1)):
        start, stop = int(offsets[first]), int(offsets[last])
        block = tokens[start:stop]
        rounded = block.bfloat16()
        best[first:last] = bfloat16_runs_max(rounded @ columns, lengths[first:last])
        sizes[start:stop] = torch.linalg.vector_norm(block, dim=1)
        errors[start:stop] = torch.linalg.vector_norm(block - rounded.float(), dim=1)
    places = np.concatenate([[0], np.cumsum(queries.lengths.numpy())[:-1]])

    def of_queries(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.add.reduceat(values, places, axis=0))

    # |q d - q'd'| <= |q - q'| |d| + |q'| |d - d'|, by Cauchy and Schwarz.
    size = of_queries(torch.linalg.vector_norm(asked.float(), dim=1).numpy())
    error = of_queries(torch.linalg.vector_norm(queries.tokens - asked.float(), dim=1).numpy())
    longest = np.maximum.reduceat(sizes, offsets[:-1])
    worst = np.maximum.reduceat(errors, offsets[:-1])
    steps = tokens.shape[1] + queries.lengths.numpy()
    summed = STEP * (steps * (size + error))[:, None] * longest
    off = error[:, None] * longest + size[:, None] * worst + summed
    return of_queries(best.T), off + ROUNDING * of_queries(np.abs(best.T))


def _settled(
    wanted: NDArray[np.bool_], queries: Ragged, tokens: Tensor, lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Score the pairs of queries and documents that are wanted; the others are -inf."""
    scores = np.full(wanted.shape, -np.inf, dtype=np.float32)
    offsets, each = np.concatenate([[0], np.cumsum(lengths)]), queries.unpack()
    counts = queries.lengths.numpy()
    for one in np.flatnonzero(wanted.any(axis=0)):
        asking = np.flatnonzero(wanted[:, one])
        vectors = torch.cat([each[query] for query in asking])
        best = (tokens[int(offsets[one]) : int(offsets[one + 1])] @ vectors.T).amax(0).numpy()
        places = np.concatenate([[0], np.cumsum(counts[asking])[:-1]])
        scores[asking, one] = np.add.reduceat(best, places)
    return scores
