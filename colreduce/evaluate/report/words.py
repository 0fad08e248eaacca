"""The evaluation in sentences: what a reader who reads nothing else should know."""

from __future__ import annotations

from colreduce.evaluate.evaluation import Evaluation
from colreduce.evaluate.report.points import Point, is_exact, points
from colreduce.evaluate.rows import EXACT
from colreduce.evaluate.significance import Comparison
from colreduce.pages.markup import Html, Part, from_data, joined, tag
from colreduce.units import amount, milliseconds

# The share of exact quality that a recipe must keep to be named as the choice.
KEPT = 0.99


def headlines(found: Evaluation) -> list[Html]:
    """Return the sentences at the top of the report."""
    made = points(found)
    chosen = [one for one in made if not is_exact(one, found)]
    told = [_choice(chosen, found)] if chosen else []
    told += [_cost(made, found)] if made else []
    told += [_blame(found)] if chosen else []
    told += [_runs(found)] if found.runs else []
    told += [_tests(found)] if found.comparisons else []
    return [one for one in told if one]


def scope(found: Evaluation) -> Html:
    """Say what was measured on what."""
    collections = [one.judged for one in found.contests]
    documents = sum(len(one.documents) for one in collections)
    queries = sum(len(one.qrels) for one in collections)
    names = [tag("b", from_data(one.name)) for one in collections]
    recipes = len({row.recipe for row in found.rows})
    what = [_count(recipes, "recipe")] if recipes else []
    runs = len({one.run for one in found.runs})
    what += [_count(runs, "run") + " of other systems"] if runs else []
    encoders = list(dict.fromkeys(row.encoder for row in found.rows))
    return joined(
        f"{' and '.join(what)} on {_count(queries, 'judged query')} and "
        f"{_count(documents, 'document')} of ",
        *_listed(names),
        joined(", encoded with ", *_listed([from_data(one) for one in encoders]))
        if encoders
        else None,
        ".",
    )


def _choice(chosen: list[Point], found: Evaluation) -> Html:
    """Name the smallest recipe that keeps nearly all; else the best there is."""
    first = found.metrics[0]
    keeping = [one for one in chosen if one.share.value >= KEPT]
    if keeping:
        best = min(keeping, key=lambda one: (one.bytes_per_doc, -one.share.value))
        start: Part = ["The smallest recipe that keeps ", f"{KEPT:.0%} of exact {first} is "]
    else:
        best = max(chosen, key=lambda one: one.share.value)
        start = [f"No recipe keeps {KEPT:.0%} of exact {first}; the best is "]
    return joined(
        start,
        named(best),
        f": {_share(best)}, in {amount(best.bytes_per_doc)} a document, "
        f"{best.bytes_per_doc / best.raw_bytes_per_doc:.1%} of the raw vectors.",
    )


def _cost(made: list[Point], found: Evaluation) -> Html:
    exact = next((one for one in made if is_exact(one, found)), None)
    others = [one for one in made if one is not exact]
    if not others:
        return joined()
    quick = min(others, key=lambda one: one.p50)
    told = joined(
        "The quickest recipe is ", named(quick), f": half of its searches take less than "
        f"{milliseconds(quick.p50)}"
    )  # fmt: skip
    if exact is None:
        return joined(told, ".")
    return joined(
        told,
        f", those of exact search {milliseconds(exact.p50)} "
        f"in {amount(exact.bytes_per_doc)} a document.",
    )


def _blame(found: Evaluation) -> Html:
    """Name the stage that lost most of the first metric anywhere."""
    first = found.metrics[0]
    stages = [
        (loss.lost[first], loss.stage, row)
        for row in found.rows
        for loss in row.losses[1:]
        if first in loss.lost
    ]
    if not stages:
        return joined()
    lost, stage, row = max(stages, key=lambda one: one[0].value)
    if lost.value <= 0:
        return joined(f"No stage of any recipe lost {first}.")
    letters = {one.system: one for one in points(found)}
    return joined(
        "The stage that lost most is ",
        tag("code", stage),
        " of ",
        named(letters[row.recipe]),
        f": {lost.value:.4f} of {first} on ",
        from_data(row.dataset),
        f" (95 % interval {lost.low:.4f} to {lost.high:.4f}).",
    )


def _runs(found: Evaluation) -> Html:
    first = found.metrics[0]
    best = max(found.runs, key=lambda one: one.metrics[first])
    return joined(
        "Of the runs of other systems the best is ",
        tag("b", from_data(best.run)),
        f" with {first} {best.metrics[first]:.3f} on ",
        from_data(best.dataset),
        ".",
    )


def _tests(found: Evaluation) -> Html:
    """Say which systems are worse or better than the baseline by more than chance."""
    first = found.metrics[0]
    family = [one for one in found.comparisons if one.metric == first]
    certain = [one for one in family if one.significant]
    start = f"{len(certain)} of {_count(len(family), 'comparison')} by {first} "
    if not certain:
        return joined(
            start,
            "are more than chance after correction. That does not prove the systems equal: see "
            "the intervals.",
        )
    against = [one for one in certain if one.first == EXACT] or certain
    letters = {one.system: one for one in points(found)}

    def told(one: Comparison) -> Html:
        verb = "better" if one.difference.value > 0 else "worse"
        system = letters.get(one.second)
        name = named(system) if system else from_data(one.second)
        than = "exact search" if one.first == EXACT else from_data(one.first)
        return joined(name, f" is {verb} than ", than, " on ", from_data(one.dataset))

    more = f", and {len(against) - 4} more" if len(against) > 4 else ""
    verb = "is" if len(certain) == 1 else "are"
    shown = [told(one) for one in against[:4]]
    return joined(start, f"{verb} more than chance: ", *_listed(shown, last=not more), more, ".")


def named(point: Point) -> Html:
    """Return a recipe with its letter."""
    return joined(tag("span", point.letter, class_="letter"), " ", tag("code", point.system))


def _share(point: Point) -> str:
    one = point.share
    return f"{one.value:.1%} (95 % interval {one.low:.1%} to {one.high:.1%})"


def _count(number: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def _listed(parts: list[Html], *, last: bool = True) -> list[Part]:
    """Put commas between parts, and an 'and' before the last one."""
    found: list[Part] = []
    for number, part in enumerate(parts):
        if number:
            found.append(" and " if last and number == len(parts) - 1 else ", ")
        found.append(part)
    return found
