"""Query reducers, written out with plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def unit(vectors: Floats) -> Floats:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def _table(query: Floats) -> Floats:
    return np.asarray((unit(query) @ unit(query).T * 2**20).round() / 2**20)


def farthest_first(query: Floats, size: int) -> list[int]:
    table = _table(query)
    chosen = [int(table.mean(1).argmin())]
    while len(chosen) < size:
        free = [p for p in range(len(query)) if p not in chosen]
        chosen.append(min(free, key=lambda p: (max(table[p, c] for c in chosen), p)))
    return chosen


def covering(query: Floats, size: int) -> list[int]:
    table = _table(query)
    chosen: list[int] = []
    while len(chosen) < size:
        free = [p for p in range(len(query)) if p not in chosen]
        chosen.append(max(free, key=lambda p: (table[:, [*chosen, p]].max(1).sum(), -p)))
    return chosen


def kmeans(query: Floats, size: int, iterations: int, renormalise: bool) -> Floats:
    if len(query) <= size:
        return query
    rows = unit(query)
    centres = [rows[p] for p in farthest_first(query, size)]

    def nearest() -> list[int]:
        return [int(np.argmax([row @ centre for centre in centres])) for row in rows]

    labels = nearest()
    for _ in range(iterations):
        for number in range(size):
            members = [row for row, label in zip(rows, labels, strict=True) if label == number]
            if members:
                centres[number] = unit(np.sum(members, axis=0)[None])[0]
        labels = nearest()
    groups = [query[[i for i, x in enumerate(labels) if x == number]] for number in range(size)]
    means = np.array([group.mean(0) for group in groups if len(group)])
    return unit(means) if renormalise else means


def balls(query: Floats, threshold: float) -> Floats:
    table = _table(query)
    left, sums = list(range(len(query))), []
    while left:
        inside = [p for p in left if p == left[0] or table[left[0], p] >= threshold]
        sums.append(query[inside].astype(np.float64).sum(0))
        left = [p for p in left if p not in inside]
    return np.array(sums)


def top(query: Floats, size: int, by: str, weigh: bool) -> Floats:
    if len(query) <= size:
        return query
    chosen = sorted((covering if by == "coverage" else farthest_first)(query, size))
    counts = dict.fromkeys(chosen, 0)
    for position, row in enumerate(_table(query)):
        counts[position if position in chosen else max(chosen, key=lambda c: (row[c], -c))] += 1
    return np.array([query[c] * (counts[c] if weigh else 1) for c in chosen])
