"""A plan as a recipe file: TOML that every command reads, with the reasons as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from colreduce.plan.finders import EXHAUSTIVE
from colreduce.plan.options import Option
from colreduce.plan.result import Plan
from colreduce.plan.words import expected, queries_in_words
from colreduce.units import amount, milliseconds

WIDTH = 96

# Other choices that are named beside the one that was made.
NAMED = 4


def recipe_file(plan: Plan) -> str:
    """Return the text of the file."""
    reasons = {
        "[[transform]]": _other_widths(plan),
        "[[reduce]]": _reduction(plan),
        "[codec]": _others(plan, "codec", lambda one: one.arm.codec),
        "[[first_stage]]": _others(plan, "first stage", lambda one: one.first_stage),
        "[rerank]": _others(plan, "candidates", lambda one: str(one.candidates)),
    }
    lines = [line for said in _head(plan) for line in _comment(said)]
    lines.append("")
    for line in plan.recipe.to_toml().splitlines():
        said = reasons.pop(line, "")
        lines += [*(_comment(said) if said else ()), line]
    return "\n".join(lines).rstrip() + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False)]


def _head(plan: Plan) -> Iterator[str]:
    built = plan.settled.built
    yield (
        f"Planned on {plan.task.name}, {len(plan.task.documents):,} documents, by "
        f"{queries_in_words(plan)}. Wanted: {plan.target}."
    )
    yield expected(plan)
    yield (
        f"An index that was built by it takes {amount(built.total)} per document (texts: "
        f"{amount(plan.text_bytes_per_doc)}, vectors as encoded: {amount(plan.raw_bytes_per_doc)}) "
        f"and {milliseconds(built.milliseconds)} for a search."
    )
    for one in plan.settled.refused:
        yield f"Refused: {one.option.recipe}, for {one.reason}."


def _kept(option: Option) -> str:
    return f"{option.believed:.1%} in {amount(option.bytes_per_doc)}"


def _reduction(plan: Plan) -> str:
    """Say what is left of a document, and what other reductions came to."""
    chosen = plan.settled.option
    tokens = float(plan.task.documents.lengths.mean())
    left = f"Leaves {chosen.vectors_per_doc:.1f} of {tokens:.1f} vectors of a document."

    def reducer(option: Option) -> str:
        arm = option.arm
        pieces = (arm.prune, f"{arm.merger}(factor={arm.factor:g})" if arm.merger else "")
        return " | ".join(one for one in pieces if one)

    others = {
        reducer(one): one
        for one in sorted(plan.options, key=lambda one: -one.bytes_per_doc)
        if one.arm.codec == chosen.arm.codec
        and one.first_stage == chosen.first_stage
        and reducer(one) != reducer(chosen)
    }
    return f"{left} {_named(others)}".rstrip()


def _other_widths(plan: Plan) -> str:
    chosen = plan.settled.option
    others = {
        one.arm.prepare or "vectors as they are": one
        for one in sorted(plan.options, key=lambda one: -one.bytes_per_doc)
        if one.arm.codec == chosen.arm.codec and one.arm.width != chosen.arm.width
    }
    return _named(others)


def _others(plan: Plan, what: str, of: Callable[[Option], str]) -> str:
    """Name the options that differ from the chosen one in one thing only."""
    chosen = plan.settled.option
    things: dict[str, Callable[[Option], str]] = {
        "codec": lambda one: one.arm.codec,
        "first stage": lambda one: one.first_stage,
        "candidates": lambda one: str(one.candidates),
    }
    if what == "first stage" or chosen.first_stage == EXHAUSTIVE:
        del things["candidates"]
    if what == "candidates" and chosen.first_stage == EXHAUSTIVE:
        return ""
    same = [other for name, other in things.items() if name != what]
    others = {
        of(one): one
        for one in plan.options
        if one.arm.reduction == chosen.arm.reduction
        and all(other(one) == other(chosen) for other in same)
        and of(one) != of(chosen)
    }
    return _named(others)


def _named(others: dict[str, Option]) -> str:
    """List other choices with what the choosing queries let one believe of them."""
    if not others:
        return ""
    told = [f"{name} {_kept(one)}" for name, one in list(others.items())[-NAMED:]]
    return f"By the choosing queries, others keep: {'; '.join(told)}."
