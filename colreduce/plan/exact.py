"""One pass of the whole corpus by all queries: the best documents by exact MaxSim."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.progress import Progress
from colreduce.evaluate.rough import best_scores
from colreduce.evaluate.scoring import TopRows
from colreduce.plan.task import NONE, Task

BLOCK_TOKENS = 1 << 17


def exact_best(task: Task, depth: int, progress: Progress) -> NDArray[np.int64]:
    """Return the best rows of each query, best first: [queries, depth].

    Where there are fewer documents, the row is -1; so it is for one that is hidden.
    """
    documents, top = task.documents, TopRows(len(task), min(depth + 1, len(task.documents)))
    for start, block in documents.blocks(BLOCK_TOKENS):
        progress("exact", start, len(documents))
        here = partial(hide, hidden=task.hidden, rows=np.arange(start, start + len(block)))
        lengths, least = block.lengths.numpy(), top.least
        scores = best_scores(task.queries, block.tokens, lengths, least, top.depth, here)
        top.add(start, scores)
    progress("exact", len(documents), len(documents))
    rows, scores = top.finish()
    rows[~np.isfinite(scores)] = NONE
    filled = np.full((len(task), depth), NONE, dtype=np.int64)
    filled[:, : rows.shape[1]] = rows[:, :depth]
    return filled


def hide(scores: NDArray[np.float32], hidden: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """Give the documents that queries must not find no chance.

    scores [queries, n] of the rows [n], which are in ascending order
    """
    places = np.searchsorted(rows, hidden).clip(0, max(len(rows) - 1, 0))
    there = np.flatnonzero((hidden >= 0) & (rows[places] == hidden))
    scores[there, places[there]] = -np.inf
