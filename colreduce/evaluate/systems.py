"""Systems side by side on one collection: recipes, exact search, and runs that came from outside.

Whatever ranked the documents, a system is its ranking and the value of every metric for every
judged query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.judged import Judged
from colreduce.evaluate.metrics import Run, Scores, scored


@dataclass(frozen=True, slots=True)
class System:
    """One ranking of one collection."""

    name: str
    run: Run
    means: dict[str, float]
    scores: Scores

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return the metric's value for every judged query: [queries]."""
        return np.array(list(self.scores[metric].values()))


@dataclass(frozen=True, slots=True)
class Contest:
    """All systems on one collection. The first one is what the others are held against."""

    judged: Judged
    systems: Sequence[System]

    @property
    def baseline(self) -> System:
        """Return exact search; the first run from outside where there is none."""
        return self.systems[0]


def contest(judged: Judged, metrics: Sequence[str], runs: Iterable[tuple[str, Run]]) -> Contest:
    """Score named rankings of one collection."""
    systems = []
    for name, run in runs:
        means, scores = scored(metrics, judged.qrels, run)
        systems.append(System(name, run, means, scores))
    return Contest(judged, systems)
