"""Selectors by what tokens are, written out for one document at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dedupe(vectors: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Return the positions that stay, and for every token which of them took it in."""
    kept: list[int] = []
    places: list[int] = []
    for position, vector in enumerate(vectors):
        for place, other in enumerate(kept):
            if np.array_equal(vector, vectors[other]):
                places.append(place)
                break
        else:
            places.append(len(kept))
            kept.append(position)
    return kept, places


def drop(ids: Sequence[int], dropped: set[int], special: Sequence[bool]) -> list[int]:
    kept = [p for p, number in enumerate(ids) if special[p] or number not in dropped]
    return kept or list(range(len(ids)))


def frequencies(
    documents: Sequence[Sequence[int]], special: Sequence[Sequence[bool]]
) -> Counter[int]:
    """Count in how many documents each type is."""
    counts: Counter[int] = Counter()
    for ids, marks in zip(documents, special, strict=True):
        counts.update({number for number, mark in zip(ids, marks, strict=True) if not mark})
    return counts


def most_common(counts: Counter[int], types: int) -> set[int]:
    return set(sorted(counts, key=lambda number: (-counts[number], number))[:types])


def idf_per_doc(
    ids: Sequence[int], special: Sequence[bool], counts: Counter[int], size: int
) -> list[int]:
    def worth(position: int) -> tuple[bool, int, int]:
        return (not special[position], counts[ids[position]], position)

    return sorted(sorted(range(len(ids)), key=worth)[:size])


def importance(weights: NDArray[Any], size: int) -> list[int]:
    return sorted(sorted(range(len(weights)), key=lambda p: (-weights[p], p))[:size])


def above(weights: NDArray[Any], sigma: float) -> list[int]:
    wide = weights.astype(np.float64)
    kept = [p for p, w in enumerate(wide) if w > wide.mean() + sigma * wide.std()]
    return kept or [int(wide.argmax())]
