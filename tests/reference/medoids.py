"""k-medoids, written out for one document of unit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.positions import stride
from tests.reference.spread import centrality


def medoids(vectors: NDArray[Any], size: int, iterations: int) -> list[int]:
    table = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    chosen = [int(centrality(vectors).argmin())]
    while len(chosen) < size:
        free = [p for p in range(len(vectors)) if p not in chosen]
        chosen.append(max(free, key=lambda p: (-max(table[p, c] for c in chosen), -p)))
    chosen.sort()
    for _ in range(iterations):
        owner = [
            p if p in chosen else max(chosen, key=lambda c: (table[p, c], -c))
            for p in range(len(vectors))
        ]
        moved = []
        for medoid in chosen:
            members = [p for p in range(len(vectors)) if owner[p] == medoid]
            central = {p: table[p, members].sum() for p in members}
            best = max(members, key=lambda p: (central[p], -p))
            moved.append(best if central[best] > central[medoid] + 1e-6 else medoid)
        if sorted(moved) == chosen:
            break
        chosen = sorted(moved)
    return chosen


def segmented(vectors: NDArray[Any], size: int, iterations: int, segments: int) -> list[int]:
    length, runs = len(vectors), min(segments, size)
    wanted = stride(length, size)
    chosen = []
    for run in range(runs):
        inside = [p for p in range(length) if p * runs // length == run]
        share = sum(p in wanted for p in inside)
        if share:
            chosen += [inside[p] for p in medoids(vectors[inside], share, iterations)]
    return chosen
