"""Systems as points: what each is worth and what it costs, over all collections of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from colreduce.evaluate.evaluation import Evaluation
from colreduce.evaluate.rows import EXACT, Row
from colreduce.evaluate.statistics import Interval


@dataclass(frozen=True, slots=True)
class Point:
    """One recipe: its share of exact search's first metric, its bytes and its median search."""

    letter: str
    system: str
    value: float
    share: Interval
    bytes_per_doc: float
    raw_bytes_per_doc: float
    p50: float


def points(found: Evaluation) -> list[Point]:
    """Return a point for every recipe that was on all collections, in the order of the run."""
    first, made = found.metrics[0], []
    averaged = {one.system: one for one in found.averages}
    recipes = list(dict.fromkeys(row.recipe for row in found.rows))
    for number, recipe in enumerate(recipes):
        rows = [row for row in found.rows if row.recipe == recipe]
        average = averaged.get(rows[0].system)
        share = (average or rows[0]).relative_intervals[first]
        made.append(
            Point(
                letter=letter(number),
                system=recipe,
                value=(average or rows[0]).metrics[first],
                share=share,
                bytes_per_doc=_weighted(rows, [row.bytes_per_doc["total"] for row in rows]),
                raw_bytes_per_doc=_weighted(rows, [row.raw_bytes_per_doc for row in rows]),
                p50=sum(row.search_ms["p50"] for row in rows) / len(rows),
            )
        )
    return made


def text_bytes(found: Evaluation) -> float:
    """Return the size of a document's text; 0 where there are only vectors."""
    rows = list({row.dataset: row for row in found.rows}.values())
    return _weighted(rows, [row.text_bytes_per_doc for row in rows]) if rows else 0.0


def letter(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    before, last = divmod(number, 26)
    return (letter(before - 1) if before else "") + chr(ord("A") + last)


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return the points that no other beats on both cost and value, the cheapest first."""
    kept: list[int] = []
    for number in sorted(range(len(costs)), key=lambda one: (costs[one], -values[one])):
        if not kept or values[number] > values[kept[-1]]:
            kept.append(number)
    return kept


def is_exact(point: Point, found: Evaluation) -> bool:
    """Say whether a point is exact search itself."""
    return any(row.recipe == point.system and row.system == EXACT for row in found.rows)


def _weighted(rows: Sequence[Row], values: Sequence[float]) -> float:
    """Return a mean over documents, not over collections: what one index of all would have."""
    documents = [row.documents for row in rows]
    total = sum(value * count for value, count in zip(values, documents, strict=True))
    return total / sum(documents)
