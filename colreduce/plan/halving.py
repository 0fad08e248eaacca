"""Successive halving: many arms on few queries, the better half of them on more.

Better means: not beaten by another arm in both bytes and quality. Arms are counted off by fronts:
those that nothing beats, then those that only the first front beats, and so on. Quality goes by two
measures where there are judgements. Agreement with exact search tells arms apart on few queries,
the metric says what users see; an arm stays in when it is in the better half by either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.report.points import front
from colreduce.plan.belief import Belief
from colreduce.plan.bench import Tried
from colreduce.plan.measure import Measure
from colreduce.plan.pool import Pool
from colreduce.plan.target import Target


@dataclass(frozen=True, slots=True)
class Standing:
    """How an arm did in a round; the scores behind it are gone.

    believed   share of exact search's metric
    agreement  share of exact search's best ten
    """

    tried: Tried
    believed: Belief
    agreement: float

    @property
    def bytes_per_doc(self) -> float:
        """Return the bytes of vectors and models."""
        return self.tried.bytes_per_doc


def top_rows(
    scores: NDArray[np.float32], rows: NDArray[np.int64], depth: int
) -> list[NDArray[np.int64]]:
    """Return the rows [depth] of the best scores of each query; never a hidden document's."""
    depth = min(depth, scores.shape[1])
    some = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    found = []
    for places, line in zip(some, scores, strict=True):
        order = places[np.lexsort((places, -line[places]))]
        found.append(rows[order[np.isfinite(line[order])]])
    return found


def standing(tried: Tried, pool: Pool, measure: Measure) -> Standing:
    """Judge an arm by its scores on a pool."""
    best = top_rows(tried.scores, pool.rows, measure.depth)
    values = measure.values(best, pool.queries)
    agreement = float(measure.agreement(best, pool.queries).mean())
    believed = measure.believed(values, agreement, pool.queries)
    return Standing(replace(tried, scores=tried.scores[:0]), believed, agreement)


def better_half(
    arms: Sequence[Standing], keep: int, target: Target, rest: float, *, last: bool
) -> list[Standing]:
    """Return at most ``keep`` arms that are worth another round, in their order.

    rest  bytes of a document that no arm can do without
    last  whether no neighbours will be looked at any more, which may be smaller
    """
    most = (target.max_bytes or math.inf) * (1.05 if last else 2.0)
    smallest = sorted(arms, key=lambda one: one.bytes_per_doc)[:keep]
    affordable = [one for one in arms if one.bytes_per_doc + rest <= most] or smallest
    if target.keep is not None:
        wanted = target.keep
        hopeful = [
            one for one in affordable if one.believed.value + 2 * one.believed.error >= wanted
        ]
        affordable = hopeful or affordable
    costs = [one.bytes_per_doc for one in affordable]
    by_agreement = in_fronts(costs, [one.agreement for one in affordable])
    by_metric = in_fronts(costs, [one.believed.value for one in affordable])
    # Fronts begin with the cheapest. The two that lose least stay in whatever they cost.
    safest = max(range(len(costs)), key=lambda one: affordable[one].agreement)
    surest = max(range(len(costs)), key=lambda one: affordable[one].believed.value)
    chosen: list[int] = []
    for pair in [(safest, surest), *zip(by_agreement, by_metric, strict=True)]:
        for one in pair:
            if one not in chosen and len(chosen) < keep:
                chosen.append(one)
    return [affordable[one] for one in sorted(chosen)]


def in_fronts(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return all points, those that no other beats first, then those that only these beat."""
    left, order = list(range(len(costs))), []
    while left:
        found = front([costs[one] for one in left], [values[one] for one in left])
        some = [left[place] for place in found]
        order += some
        left = [one for one in left if one not in some]
    return order
