"""The search: rounds of arms on growing pools, and then whole recipes of what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.progress import Progress
from colreduce.plan.belief import SUREST
from colreduce.plan.bench import Bench
from colreduce.plan.finders import Finder, make_finders, worth_trying
from colreduce.plan.halving import Standing, better_half, standing
from colreduce.plan.measure import TOP, Measure
from colreduce.plan.options import Halves, Option, options
from colreduce.plan.pool import Pool, make_pool
from colreduce.plan.space import Arm, Space
from colreduce.plan.target import Target
from colreduce.plan.task import Task


@dataclass(frozen=True, slots=True)
class Size:
    """How large a round is, at most.

    queries      that are asked
    documents    in the pool, and how many of them methods learn from
    reductions   that are run
    keep         arms that stay in
    """

    queries: int
    documents: int
    learned: int
    reductions: int
    keep: int


ROUNDS = (Size(30, 600, 256, 8, 8), Size(80, 1400, 512, 8, 8))

# Documents of the last pool: all of a small corpus, the best of every query in a large one.
LAST_DOCUMENTS = 6000

# Reductions that are tried on the last pool, each with a few codecs.
LAST_REDUCTIONS = 3

# Products of numbers that scoring one arm by all queries may take in the last round: some fifteen
# seconds of a core. An arm that takes more is left out unless all do.
LAST_PRODUCTS = 4e11

# How likely an arm must be to keep what is wanted, for the cheapest such arm to be looked at.
LIKELY = (0.5, 0.8)


@dataclass(frozen=True, slots=True)
class Round:
    """How large a round was."""

    arms: int
    queries: int
    documents: int

    def to_dict(self) -> dict[str, int]:
        """Return plain values."""
        return {"arms": self.arms, "queries": self.queries, "documents": self.documents}


@dataclass(frozen=True, slots=True)
class Searched:
    """All whole recipes that were measured, and the rounds that led to them."""

    options: list[Option]
    rounds: list[Round]


@dataclass(frozen=True, slots=True)
class Search:
    """Everything that the rounds have in common."""

    task: Task
    target: Target
    measure: Measure
    best: NDArray[np.int64]
    halves: Halves
    catalogue: float
    seed: int
    progress: Progress
    sizes: Sequence[Size] = ROUNDS
    last_documents: int = LAST_DOCUMENTS
    # The first stages worth trying behind each preparation, made once for all rungs of a climb.
    finders: dict[str, list[Finder]] = field(default_factory=dict)

    def run(self) -> Searched:
        """Go through all rounds."""
        known = self.task.documents.known
        encoder = self.task.encoder
        words = encoder is not None and bool(encoder.vocabulary) and "token_ids" in known
        space = Space(self.task.documents.dim, words)
        arms, rounds, stood = space.first(), list[Round](), list[Standing]()
        for number, size in enumerate(self.sizes, start=1):
            pool = self._pool(size)
            arms = _few_reductions(arms, size.reductions)
            stood = self._stand(arms, pool, f"round {number}: trying recipes")
            rounds.append(Round(len(arms), len(pool.queries), len(pool.rows)))
            last = number == len(self.sizes)
            stood = better_half(stood, size.keep, self.target, self.catalogue, last=last)
            leading = [one.tried.arm for one in self._leading(stood)]
            near = [one for arm in leading for one in space.neighbours(arm)]
            arms = list(dict.fromkeys([*leading, *near]))
        found, final = self._options(self._last_arms(stood, space))
        return Searched(found, [*rounds, final])

    def climb(self, rung: Sequence[Arm]) -> tuple[list[Option], Round]:
        """Measure whole recipes of some more arms, as the last round does."""
        return self._options(rung)

    def _pool(self, size: Size) -> Pool:
        """Ask some of the choosing queries; the first ones of a shuffled order."""
        order = np.random.default_rng(self.seed).permutation(self.halves.choosing)
        asked = np.sort(order[: size.queries])
        return make_pool(
            self.task, self.best, asked, size.documents, self.seed, sample=size.learned
        )

    def _stand(self, arms: Sequence[Arm], pool: Pool, what: str) -> list[Standing]:
        bench = Bench(pool, seed=self.seed, timed=False)
        found = []
        for number, arm in enumerate(_grouped(arms)):
            self.progress(what, number, len(arms))
            found.append(standing(bench.scores(arm), pool, self.measure))
        self.progress(what, len(arms), len(arms))
        return found

    def _last_arms(self, stood: Sequence[Standing], space: Space) -> list[Arm]:
        """Choose few reductions, and try the codecs that did well on them and the next ones."""
        documents = len(self.task.documents)
        light = [one for one in stood if self._products(one) <= LAST_PRODUCTS]
        least = sorted(stood, key=self._products)[:1]
        leading = [one.tried.arm for one in self._leading(light or least)]
        arms = [
            one
            for arm in _few_reductions(leading, LAST_REDUCTIONS)
            for one in space.with_near_codecs(arm, documents)
        ]
        return list(dict.fromkeys(arms))

    def _products(self, one: Standing) -> float:
        """Return how many products of numbers it takes to score an arm in the last round."""
        width = one.tried.arm.width or self.task.documents.dim
        documents = min(len(self.task.documents), self.last_documents)
        return one.tried.vectors * width * documents * len(self.task.queries.tokens)

    def _leading(self, stood: Sequence[Standing]) -> Sequence[Standing]:
        """Return arms in the order in which their reductions deserve the last round."""
        by_bytes = sorted(stood, key=lambda one: one.bytes_per_doc)
        if self.target.keep is None:
            by_metric = sorted(stood, key=lambda one: -one.believed.value)
            by_agreement = sorted(stood, key=lambda one: -one.agreement)
            return [one for pair in zip(by_metric, by_agreement, strict=True) for one in pair]
        first = []
        for chance in LIKELY:
            hopeful = [one for one in by_bytes if _chance(one, self.target.keep) >= chance]
            first += hopeful[:1] or sorted(stood, key=lambda one: -one.believed.value)[:1]
        # The one that is closest to exact search stands by for the case that all others fail.
        safest = max(stood, key=lambda one: one.agreement)
        return [*first, safest, *sorted(stood, key=lambda one: -one.believed.value)]

    def _options(self, arms: Sequence[Arm]) -> tuple[list[Option], Round]:
        every = np.arange(len(self.task))
        pool = make_pool(self.task, self.best, every, self.last_documents, self.seed)
        bench = Bench(pool, seed=self.seed, timed=True)
        found: list[Option] = []
        ordered = _grouped(arms)
        for number, arm in enumerate(ordered):
            self.progress("last round: trying recipes", number, len(arms))
            if arm.prepare not in self.finders:
                made = make_finders(self.task, arm.prepare, self.seed, self.progress)
                self.finders[arm.prepare] = worth_trying(made, self.best[:, :TOP])
            tried = bench.scores(arm)
            if number and ordered[number - 1].reduction != arm.reduction:
                bench.forget(ordered[number - 1])
            found += options(
                tried,
                pool,
                self.finders[arm.prepare],
                self.measure,
                self.halves,
                self.catalogue,
                self.seed,
            )
        self.progress("last round: trying recipes", len(arms), len(arms))
        return found, Round(len(arms), len(every), len(pool.rows))


def _grouped(arms: Sequence[Arm]) -> list[Arm]:
    """Put arms that share most beside each other."""
    return sorted(arms, key=lambda arm: arm.pieces)


def _few_reductions(arms: Sequence[Arm], most: int) -> list[Arm]:
    """Return the arms that share the first few reductions."""
    wanted = list(dict.fromkeys(arm.reduction for arm in arms))[:most]
    return [arm for arm in arms if arm.reduction in wanted]


def _chance(one: Standing, wanted: float) -> float:
    """Return how likely an arm keeps what is wanted, its error taken as normal."""
    below = (wanted - one.believed.value) / max(one.believed.error, SUREST)
    return 0.5 * math.erfc(below / math.sqrt(2))
