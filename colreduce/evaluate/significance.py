"""Which differences between systems are more than chance.

Every two systems on a collection are held against each other, query by query. The p-values of one
metric over all pairs and all collections of a run are one family, which Holm's method corrects: a
run that compares many recipes finds no more differences by chance than one that compares two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from colreduce.evaluate.statistics import (
    Interval,
    bootstrap_columns,
    holm,
    randomisation_tests,
    t_tests,
)
from colreduce.evaluate.systems import Contest

# A corrected p-value below this one is called significant.
ALPHA = 0.05

# Values that differ by less than this are the same: sums of the same numbers in another order.
SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on one collection by one metric.

    difference             the mean of the second less that of the first
    better, worse, same    queries on which the second is better, worse or as good
    p, p_t                 of the randomisation test and of the paired t-test
    p_holm                 p corrected for all comparisons by this metric
    """

    dataset: str
    metric: str
    first: str
    second: str
    difference: Interval
    better: int
    worse: int
    same: int
    p: float
    p_t: float
    p_holm: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance after the correction."""
        return self.p_holm < ALPHA

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            **values,
            "difference": self.difference.to_dict(),
            "significant": self.significant,
        }


def compare(contests: Sequence[Contest], metrics: Sequence[str], seed: int) -> list[Comparison]:
    """Test every pair of systems on every collection, by every metric."""
    found: list[Comparison] = []
    for metric in metrics:
        family = [one for contest in contests for one in _pairs(contest, metric, seed)]
        corrected = holm([one.p for one in family])
        found += [replace(one, p_holm=p) for one, p in zip(family, corrected, strict=True)]
    return found


def _pairs(contest: Contest, metric: str, seed: int) -> list[Comparison]:
    pairs = list(combinations(contest.systems, 2))
    if not pairs:
        return []
    gaps = np.stack([second.values(metric) - first.values(metric) for first, second in pairs], 1)
    gaps[np.abs(gaps) < SAME] = 0.0
    intervals = bootstrap_columns(gaps, seed)
    p, p_t = randomisation_tests(gaps, seed), t_tests(gaps)
    return [
        Comparison(
            dataset=contest.judged.name,
            metric=metric,
            first=first.name,
            second=second.name,
            difference=intervals[number],
            better=int((gaps[:, number] > 0).sum()),
            worse=int((gaps[:, number] < 0).sum()),
            same=int((gaps[:, number] == 0).sum()),
            p=float(p[number]),
            p_t=float(p_t[number]),
        )
        for number, (first, second) in enumerate(pairs)
    ]
