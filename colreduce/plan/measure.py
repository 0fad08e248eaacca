"""What a ranking is worth for each query, and what a recipe keeps of exact search.

Both are paired: the same queries, exact search beside the recipe, so that what makes a query hard
drops out of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.metrics import measures, scored
from colreduce.evaluate.rows import AGREEMENT
from colreduce.evaluate.statistics import LEVEL, Interval, bootstrap_ratio
from colreduce.plan.belief import Belief, tempered
from colreduce.plan.task import Task

# Hits that agreement looks at.
TOP = 10


class Measure:
    """The values of rankings, query by query, and exact search's own.

    depth  how many hits of each query count
    """

    def __init__(self, task: Task, metric: str, best: NDArray[np.int64]) -> None:
        """``best`` holds the rows of exact search: [queries, depth or more], best first.

        Where there are fewer documents the row is -1.
        """
        self._task = task
        self._best = best
        self.name = metric if task.qrels is not None else AGREEMENT
        self.depth = self.depth_for(metric, task.qrels is not None)
        every = np.arange(len(task))
        found = [row[: self.depth] for row in best]
        self.exact = self.values([row[row >= 0] for row in found], every)

    @staticmethod
    def depth_for(metric: str, judged: bool) -> int:
        """Return how many hits a metric looks at."""
        if not judged:
            return TOP
        [one] = measures([metric])
        return max(int(one.params.get("cutoff") or 100), TOP)

    def values(
        self, rankings: Sequence[NDArray[np.int64]], queries: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the value of each ranking of rows; ``queries`` says whose they are."""
        qrels = self._task.qrels
        if qrels is None:
            return self.agreement(rankings, queries)
        ids, names = self._task.corpus.ids, [self._task.query_ids[one] for one in queries]
        run = {
            name: [(ids[row], -float(place)) for place, row in enumerate(rows.tolist())]
            for name, rows in zip(names, rankings, strict=True)
        }
        _, found = scored([self.name], {name: qrels[name] for name in names}, run)
        return np.array([found[self.name][name] for name in names])

    def agreement(
        self, rankings: Sequence[NDArray[np.int64]], queries: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the share of exact search's best ten among the first ten of each ranking."""
        pairs = zip(self._best[queries, :TOP], rankings, strict=True)
        shares = []
        for best, rows in pairs:
            there = best[best >= 0]  # a small corpus has no ten documents
            shares.append(np.isin(there, rows[:TOP]).mean() if len(there) else 1.0)
        return np.array(shares, dtype=np.float64)

    def believed(
        self, values: NDArray[np.float64], agreement: float, queries: NDArray[np.int64]
    ) -> Belief:
        """Return what to believe of a recipe's share of exact search's metric."""
        exact = self.exact[queries]
        whole = max(float(exact.mean()), 1e-12)
        share = float(values.mean()) / whole
        # The ratio's error by its linear part: what each query adds to the difference.
        errors = values - share * exact
        measured = Belief(share, float(errors.std(ddof=1)) / whole / len(exact) ** 0.5)
        return measured if self._task.qrels is None else tempered(measured, agreement)

    def kept(
        self,
        values: NDArray[np.float64],
        queries: NDArray[np.int64],
        seed: int,
        level: float = LEVEL,
    ) -> Interval:
        """Return what values are of exact search's on the same queries, with the interval."""
        return bootstrap_ratio(values, self.exact[queries], seed, level=level)
