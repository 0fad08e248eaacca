"""Averages over several collections.

Every collection counts once, however many queries it has, and the parts of a group, such as the
forums of CQADupStack, count together as one. Sizes are weighted by documents: they are what an
index of all collections would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.rows import EXACT, Row
from colreduce.evaluate.statistics import Interval, bootstrap_average_ratio
from colreduce.evaluate.systems import Contest


@dataclass(frozen=True, slots=True)
class Average:
    """One system over all collections.

    relative            mean of each collection's share of exact search's value
    relative_intervals  with the queries of every collection drawn again
    bytes_per_doc, search_ms   empty for a run from outside
    """

    system: str
    datasets: int
    metrics: Mapping[str, float]
    relative: Mapping[str, float]
    relative_intervals: Mapping[str, Interval]
    bytes_per_doc: Mapping[str, float]
    search_ms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def averages(
    contests: Sequence[Contest], rows: Sequence[Row], metrics: Sequence[str], seed: int
) -> list[Average]:
    """Average every system that was on all of several collections."""
    if len(contests) < 2:
        return []
    names = [
        system.name
        for system in contests[0].systems
        if all(any(one.name == system.name for one in each.systems) for each in contests)
    ]
    weights = _weights(contests)
    return [_average(name, contests, weights, rows, metrics, seed) for name in names]


def _weights(contests: Sequence[Contest]) -> NDArray[np.float64]:
    """Return how much each collection counts: those of a group count as one."""
    groups = [each.judged.group or each.judged.name for each in contests]
    sizes = np.array([groups.count(one) for one in groups], dtype=np.float64)
    return np.asarray(1 / sizes / len(set(groups)))


def _average(
    name: str,
    contests: Sequence[Contest],
    weights: NDArray[np.float64],
    rows: Sequence[Row],
    metrics: Sequence[str],
    seed: int,
) -> Average:
    systems = [next(one for one in each.systems if one.name == name) for each in contests]
    means = {
        metric: float(weights @ [system.means[metric] for system in systems]) for metric in metrics
    }
    shares: dict[str, Interval] = {}
    if contests[0].baseline.name == EXACT:
        pairs = list(zip(systems, (each.baseline for each in contests), strict=True))
        for metric in metrics:
            tables = [np.stack([a.values(metric), b.values(metric)], axis=1) for a, b in pairs]
            shares[metric] = bootstrap_average_ratio(tables, weights, seed)
    own = [row for row in rows if row.system == name]
    documents = np.array([row.documents for row in own], dtype=np.float64)
    sizes: dict[str, float] = {}
    times: dict[str, float] = {}
    if own:
        for part in own[0].bytes_per_doc:
            each = np.array([row.bytes_per_doc[part] for row in own])
            sizes[part] = float(each @ documents / documents.sum())
        times = {q: float(np.mean([row.search_ms[q] for row in own])) for q in own[0].search_ms}
    relative = {metric: one.value for metric, one in shares.items()}
    return Average(name, len(contests), means, relative, shares, sizes, times)
