"""From many measured recipes to one that is believed.

The choosing queries put the recipes in order. Then the held-back queries are asked: a recipe that
they do not confirm is refused and the next one is looked at. What they say of the one that is taken
is stated; the more were refused before it, the wider the interval, for of several tries one may
pass by luck (Bonferroni's correction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.progress import Progress
from colreduce.evaluate.statistics import LEVEL, Interval
from colreduce.plan.built import Built, build
from colreduce.plan.measure import Measure
from colreduce.plan.options import Halves, Option
from colreduce.plan.target import Target
from colreduce.plan.task import Task
from colreduce.units import amount

# Recipes that are tried on the held-back queries. The next one must be larger and agree better with
# exact search by so much: one that is nearly the same would be the same choice once more.
TRIES = 5
LARGER, CLOSER = 1.1, 0.02

# Of recipes whose quality differs by less than this the smallest is taken.
ALIKE = 0.002


@dataclass(frozen=True, slots=True)
class Refused:
    """A recipe that the choosing queries wanted, and why it was not taken."""

    option: Option
    kept: Interval
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The choice.

    kept       share of exact search's metric on the held-back queries, on the index that was built
    confirmed  whether the held-back queries and the real index confirm all that was wanted
    """

    option: Option
    built: Built
    kept: Interval
    confirmed: bool
    refused: list[Refused]

    @property
    def level(self) -> float:
        """Return the level of the interval, for each try so that it holds for all."""
        return level_after(len(self.refused))


def level_after(refused: int) -> float:
    """Return the level at which one more interval leaves the level of all at `LEVEL`."""
    return 1 - (1 - LEVEL) / (refused + 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """Chooses among recipes."""

    task: Task
    target: Target
    measure: Measure
    halves: Halves
    seed: int
    progress: Progress

    def settle(self, options: Sequence[Option]) -> Settled:
        """Choose a recipe, build its index and measure it on the held-back queries."""
        wanted = self.in_order(options)
        refused: list[Refused] = []
        for option in wanted:
            if len(refused) >= TRIES:
                break
            if refused and not self._is_another(option, refused[-1].option):
                continue
            held_back = option.values[self.halves.held_back]
            said = self._kept(held_back, len(refused))
            reason = self._missed(held_back, option.agreement)
            if not reason:
                built = self._build(option)
                said = self._kept(built.values, len(refused))
                reason = self._missed(built.values, built.agreement) or self._too_much(built)
                if not reason:
                    return Settled(option, built, said, True, refused)
            refused.append(Refused(option, said, reason))
        return self._nearest(options, refused)

    def hopeless(self, options: Sequence[Option]) -> bool:
        """Say whether none of the recipes will do, and larger ones are allowed."""
        bounded = self.target.max_bytes is not None or self.target.max_ms is not None
        if self.target.keep is None or bounded:
            return False
        held_back = self.halves.held_back
        return all(
            self._missed(one.values[held_back], one.agreement) for one in self.in_order(options)
        )

    def in_order(self, options: Sequence[Option]) -> list[Option]:
        """Return the recipes that hold the bounds by estimate, the one that is wanted most first.

        With a share to keep: the smallest first. Without: the best first, and of those that are
        about as good the smallest.
        """
        held = [one for one in options if self.target.affords(one.bytes_per_doc, one.milliseconds)]
        keep = self.target.keep
        if keep is not None:
            enough = [one for one in held if one.believed >= keep]
            return sorted(enough, key=_size)
        if not held:
            return []
        most = max(one.believed for one in held)
        alike = [one for one in held if one.believed >= most - ALIKE]
        others = [one for one in held if one.believed < most - ALIKE]
        return [*sorted(alike, key=_size), *sorted(others, key=lambda one: -one.believed)]

    def _is_another(self, option: Option, before: Option) -> bool:
        """Say whether a recipe is a choice of its own after one that was refused."""
        if self.target.keep is not None:
            larger = option.bytes_per_doc >= LARGER * before.bytes_per_doc
            return larger and option.agreement >= before.agreement + CLOSER
        return (
            option.bytes_per_doc < before.bytes_per_doc or option.milliseconds < before.milliseconds
        )

    def _kept(self, values: NDArray[np.float64], refused: int) -> Interval:
        return self.measure.kept(
            values,
            self.halves.held_back,
            self.seed,
            level_after(refused),
        )

    def _missed(self, values: NDArray[np.float64], agreement: float) -> str:
        """Return how the held-back queries deny what is wanted; empty when they do not.

        A few queries that are worse by chance deny nothing that agrees with exact search.
        """
        keep, held_back = self.target.keep, self.halves.held_back
        believed = self.measure.believed(values, agreement, held_back).value
        if keep is None or believed >= keep:
            return ""
        share = values.sum() / max(self.measure.exact[held_back].sum(), 1e-12)
        return (
            f"the held-back queries keep {share:.1%}; with its agreement that lets one believe "
            f"{believed:.1%}, wanted {keep:.1%}"
        )

    def _too_much(self, built: Built) -> str:
        """Return which bound the real index does not hold; empty when it holds all."""
        if self.target.affords(built.total, built.milliseconds):
            return ""
        return (
            f"the index takes {amount(built.total)} per document and {built.milliseconds:.1f} ms "
            f"for a search, wanted {self.target}"
        )

    def _nearest(self, options: Sequence[Option], refused: list[Refused]) -> Settled:
        """Return the best there is, by all queries, when nothing was confirmed."""
        fits = [one for one in options if self.target.affords(one.bytes_per_doc, one.milliseconds)]
        if fits:
            option = max(fits, key=lambda one: (self._by_all(one), -one.bytes_per_doc))
        elif self.target.max_bytes is not None:
            option = min(options, key=_size)
        else:
            option = min(options, key=lambda one: one.milliseconds)
        built = self._build(option)
        others = [one for one in refused if one.option is not option]
        return Settled(option, built, self._kept(built.values, len(others)), False, others)

    def _by_all(self, option: Option) -> float:
        """Return what all queries together let one believe of a recipe."""
        every = np.arange(len(self.task))
        return self.measure.believed(option.values, option.agreement, every).value

    def _build(self, option: Option) -> Built:
        return build(
            self.task,
            option.recipe,
            self.measure,
            self.halves.held_back,
            self.seed,
            self.progress,
        )


def _size(option: Option) -> tuple[float, float]:
    return option.bytes_per_doc, option.milliseconds
