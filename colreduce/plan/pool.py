"""A part of the corpus that stands for the whole: what a round of the search is measured on.

Documents drawn at random would make every recipe look good: nearly all of them are far from every
query. So the pool of some queries holds, beside the documents that methods learn from, those that
exact search puts first for these queries, as many for each as there is room for. What a recipe
loses, it loses among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.evaluate.sample import SAMPLE, reservoir
from colreduce.plan.task import Task
from colreduce.ragged import Ragged


@dataclass(frozen=True, slots=True)
class Pool:
    """Some queries and some documents.

    queries    [q] their numbers in the task
    rows       [n] the documents' rows in the corpus, in ascending order
    documents  their vectors
    learned    [s] places in the pool of the documents that methods learn from
    """

    task: Task
    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
    documents: Ragged
    learned: torch.Tensor

    @property
    def asked(self) -> Ragged:
        """Return the queries' vectors."""
        return self.task.queries.take(torch.from_numpy(self.queries))


def make_pool(
    task: Task,
    best: NDArray[np.int64],
    queries: NDArray[np.int64],
    limit: int,
    seed: int,
    *,
    sample: int = SAMPLE,
) -> Pool:
    """Gather a pool of at most about ``limit`` documents; all, if there are no more.

    best    [all queries, depth] rows of exact search, best first
    sample  documents that methods learn from
    """
    count = len(task.documents)
    learned = np.array(reservoir(range(count), sample, seed), dtype=np.int64)
    rows = np.arange(count) if count <= limit else _gathered(best, queries, limit, learned)
    return Pool(
        task,
        queries,
        rows,
        task.documents.span(0, count) if len(rows) == count else task.documents.take(rows.tolist()),
        torch.from_numpy(np.searchsorted(rows, learned)),
    )


def _gathered(
    best: NDArray[np.int64],
    queries: NDArray[np.int64],
    limit: int,
    learned: NDArray[np.int64],
) -> NDArray[np.int64]:
    rows = learned
    for depth in range(best.shape[1]):
        column = best[queries, depth]
        more = np.union1d(rows, column[column >= 0])
        # The best ten are always there: they are what a ranking is compared with.
        if len(more) > limit and depth >= 10:
            break
        rows = more
    return rows
