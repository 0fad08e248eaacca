"""Whole recipes, put together from parts that were measured: arms, first stages, candidates.

A ranking is that of an arm's scores among a first stage's candidates, so a recipe costs a look at
numbers that are there already. Queries are parted in two: one half chooses, the other half, which
had no say, tells what the choice is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.statistics import Interval
from colreduce.plan.bench import FEW, Tried
from colreduce.plan.finders import CANDIDATES, EXHAUSTIVE, Finder
from colreduce.plan.halving import top_rows
from colreduce.plan.measure import Measure
from colreduce.plan.pool import Pool
from colreduce.plan.space import Arm
from colreduce.recipe import Recipe

# Stored numbers above which scoring every document for every query is no longer a choice: some
# tens of milliseconds of a core.
EXHAUSTIVE_NUMBERS = 20_000_000

# What a search takes besides looking for candidates and scoring them.
OVERHEAD_MS = 0.3


@dataclass(frozen=True, slots=True)
class Halves:
    """The queries that choose and those that are held back, by their numbers."""

    choosing: NDArray[np.int64]
    held_back: NDArray[np.int64]


def halve(count: int, seed: int) -> Halves:
    """Part queries in two by chance."""
    order = np.random.default_rng(seed).permutation(count)
    return Halves(np.sort(order[: count // 2]), np.sort(order[count // 2 :]))


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """A whole recipe with what it costs, by estimate, and what it is worth.

    values     [queries] of the metric
    agreement  share of exact search's best ten, over all queries
    chosen_by  share of exact search's metric on the choosing queries
    believed   what that share is taken for when recipes are compared
    """

    arm: Arm
    first_stage: str
    candidates: int
    vectors_per_doc: float
    bytes_per_doc: float
    milliseconds: float
    values: NDArray[np.float64]
    agreement: float
    chosen_by: Interval
    believed: float

    @property
    def recipe(self) -> Recipe:
        """Return the recipe."""
        return self.arm.recipe(self.first_stage, self.candidates)


def options(
    tried: Tried,
    pool: Pool,
    finders: Sequence[Finder],
    measure: Measure,
    halves: Halves,
    catalogue: float,
    seed: int,
) -> Iterator[Option]:
    """Yield the recipes that can be made of one arm.

    ``pool`` holds all queries; ``catalogue`` is what an index needs for ids and metadata, in
    bytes per document.
    """
    count = len(pool.task.documents)
    numbers = tried.vectors * (tried.arm.width or pool.task.documents.dim) * count
    for finder in finders:
        if finder.name == EXHAUSTIVE and numbers > EXHAUSTIVE_NUMBERS and len(finders) > 1:
            continue
        for candidates in _counts(finder, count):
            rankings = _rankings(tried, pool, finder, candidates, measure.depth)
            values = measure.values(rankings, pool.queries)
            agreements = measure.agreement(rankings, pool.queries)
            chosen = values[halves.choosing]
            belief = measure.believed(
                chosen, float(agreements[halves.choosing].mean()), halves.choosing
            )
            yield Option(
                tried.arm,
                finder.name,
                candidates,
                tried.vectors,
                tried.bytes_per_doc + finder.bytes_per_doc + catalogue,
                OVERHEAD_MS + finder.milliseconds + _scoring(tried, pool, candidates or count),
                values,
                float(agreements.mean()),
                measure.kept(chosen, halves.choosing, seed),
                belief.value,
            )


def _counts(finder: Finder, documents: int) -> list[int]:
    if finder.name == EXHAUSTIVE:
        return [0]
    return [one for one in CANDIDATES if one < documents] or [documents]


def _scoring(tried: Tried, pool: Pool, documents: int) -> float:
    """Return the milliseconds of scoring so many documents, along a line through two that were
    measured."""
    few, every = min(FEW, len(pool.rows)), len(pool.rows)
    slope = (tried.all_ms - tried.few_ms) / (every - few) if every > few else 0.0
    each = max(slope, 0.0)
    return max(tried.few_ms + each * (documents - few), 0.0)


def _rankings(
    tried: Tried, pool: Pool, finder: Finder, candidates: int, depth: int
) -> list[NDArray[np.int64]]:
    if not finder.lists:
        return top_rows(tried.scores, pool.rows, depth)
    rankings = []
    for scores, number in zip(tried.scores, pool.queries, strict=True):
        rows = np.sort(finder.rows(number, candidates))
        places = np.searchsorted(pool.rows, rows).clip(0, len(pool.rows) - 1)
        places = places[pool.rows[places] == rows]
        order = places[np.argsort(-scores[places], kind="stable")][:depth]
        rankings.append(pool.rows[order])
    return rankings
