"""What ``candidates="auto"`` means for one index: as many as its own recall curve asks for.

A curve says how much of the best ten documents is among the first so many candidates. A build with
a ledger has one, against exact search by the vectors as they were encoded. An index that grows by
`Index.add` measures its own, against the vectors that it stores: when it has none, and again
whenever it has doubled. So has one whose `Index.measure_recall` was called. The newest counts, and
where documents came since, more candidates are asked in the same measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colreduce.candidates.exhaustive import Exhaustive
from colreduce.index.ledger import kept_ledger
from colreduce.index.limits import MAX_CANDIDATES
from colreduce.recipe import Recipe
from colreduce.store import Snapshot

AUTO = "auto"

# What is taken for an index without a curve; most first stages find nearly everything in it.
UNMEASURED = 500

# The name of the index' own curve among its notes.
NOTE = "recall"

# A curve is measured again when the index holds so many times the documents of that one.
GROWN = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """How many candidates a search asks for that does not say, and why so many."""

    number: int
    why: str


def kept_curve(snapshot: Snapshot) -> Mapping[str, Any] | None:
    """Return the newest recall curve of an index; None where none was measured.

    It has ``documents``, ``generation`` and ``queries`` to say what it was measured on, ``counts``
    of candidates, and for each of them the ``recall``.
    """
    ledger = kept_ledger(snapshot)
    curves = [snapshot.notes[NOTE]] if NOTE in snapshot.notes else []
    if ledger and ledger.get("candidates"):
        told = {name: ledger[name] for name in ("documents", "generation", "queries")}
        curves.append({**told, **ledger["candidates"]})
    return max(curves, key=lambda curve: int(curve["generation"]), default=None)


def due(recipe: Recipe, snapshot: Snapshot) -> bool:
    """Say whether a curve should be measured: the recipe wants one, and there is none that fits."""
    if recipe.reranker.candidates != AUTO or exhaustive(recipe):
        return False
    curve = kept_curve(snapshot)
    return snapshot.count > (UNMEASURED if curve is None else GROWN * curve["documents"])


def choose(recipe: Recipe, snapshot: Snapshot, *, auto: bool = False) -> Choice:
    """Return how many candidates a search asks for; ``auto`` overrules the recipe's number."""
    asked = recipe.reranker.candidates
    if asked != AUTO and not auto:
        return Choice(int(asked), "the recipe says so")
    if exhaustive(recipe):
        return Choice(UNMEASURED, "every document is scored, whatever the number")
    curve = kept_curve(snapshot)
    if curve is None:
        return Choice(UNMEASURED, "no recall curve was measured for this index")
    return enough(curve, recipe.reranker.recall, snapshot.count)


def enough(curve: Mapping[str, Any], wanted: float, documents: int) -> Choice:
    """Return the first count with the recall that is wanted, or the last one there is."""
    pairs = list(zip(curve["counts"], curve["recall"], strict=True))
    count, found = next((pair for pair in pairs if pair[1] >= wanted), pairs[-1])
    asked = curve["queries"]
    why = (
        f"{found:.3f} of the best ten are among the first {count:,}, "
        f"measured on {asked['count']} {asked['kind']} against {curve['documents']:,} documents; "
        f"wanted {wanted:g}"
    )
    if found < wanted:
        why += ", which no count reached that was tried"
    growth = documents / max(curve["documents"], 1)
    if growth > 1:
        count = min(math.ceil(count * growth), MAX_CANDIDATES)
        why += f"; times {growth:.2f} for the documents that came since"
    return Choice(int(count), why)


def exhaustive(recipe: Recipe) -> bool:
    """Say whether every document is a candidate."""
    return any(isinstance(method, Exhaustive) for method in recipe.first_stages)
