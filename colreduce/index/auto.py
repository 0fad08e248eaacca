"""What ``candidates="auto"`` means for one index: as many as its own recall curve asks for.

The curve is part of the ledger that a build keeps: how much of exact search's best ten was among
the first so many candidates of the held-out queries. It is of the documents that were there then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from colreduce.recipe import Recipe

AUTO = "auto"

# The numbers of candidates at which the curve is measured.
COUNTS = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000)

# What is taken for an index without a curve; most first stages find nearly everything in it.
UNMEASURED = 500


def usual_candidates(recipe: Recipe, ledger: Mapping[str, Any] | None) -> int:
    """Return how many candidates a search takes that does not say: the recipe's number, or auto."""
    asked = recipe.reranker.candidates
    if asked != AUTO:
        return int(asked)
    curve = (ledger or {}).get("candidates")
    if not curve:
        return UNMEASURED
    return enough(curve["counts"], curve["recall"], recipe.reranker.recall)


def enough(counts: Sequence[int], recall: Sequence[float], wanted: float) -> int:
    """Return the first count with the recall that is wanted, or the last one there is."""
    for count, found in zip(counts, recall, strict=True):
        if found >= wanted:
            return int(count)
    return int(counts[-1])
