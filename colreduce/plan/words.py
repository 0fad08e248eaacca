"""A plan in sentences, the same ones on the screen and in the recipe file."""

from __future__ import annotations

from colreduce.evaluate.held_out import KINDS
from colreduce.evaluate.statistics import Interval
from colreduce.plan.result import Plan
from colreduce.units import amount, milliseconds


def queries_in_words(plan: Plan) -> str:
    """Say which queries chose, and which were held back."""
    choosing, held_back = len(plan.halves.choosing), len(plan.halves.held_back)
    return f"{choosing + held_back} {KINDS[plan.task.kind]}, {held_back} of them held back"


def range_in_words(interval: Interval) -> str:
    """Write a share with its bounds, in percent."""
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def expected(plan: Plan) -> str:
    """Say what the recipe is expected to keep and to lose, and whether that is what was wanted."""
    kept = plan.settled.kept
    lost = Interval(1 - kept.high, 1 - kept.value, 1 - kept.low)
    asked = "the held-back queries"
    if plan.settled.refused and not plan.settled.confirmed:
        asked += ", which had a say in the choice"
    said = (
        f"It is expected to keep {range_in_words(kept)} of exact search's {plan.metric}, a loss of "
        f"{range_in_words(lost)}, by {asked}; in brackets the interval at "
        f"{plan.settled.level:.0%}."
    )
    return said if plan.settled.confirmed else f"{said} {_doubt(plan)}"


def _doubt(plan: Plan) -> str:
    built = plan.settled.built
    if not plan.target.affords(built.total, built.milliseconds):
        return (
            f"Its index takes {amount(built.total)} per document and "
            f"{milliseconds(built.milliseconds)} for a search, which is more than was wanted; of "
            "what was tried, this comes nearest."
        )
    if plan.settled.refused:
        return (
            "None of the recipes that the choosing queries wanted was confirmed; this one is the "
            "best by all queries."
        )
    return (
        "By what so many queries let one believe, nothing that was tried comes up to what was "
        "wanted; this comes nearest. More queries may confirm it."
    )
