"""Token Merging, PiToMe and VisionZip for one document, one token at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.cover import whole
from tests.reference.kmeans import on_grid


@dataclass
class Vector:
    """A vector that stands for some tokens."""

    total: NDArray[np.float64]
    tokens: list[int]

    @property
    def direction(self) -> NDArray[np.float32]:
        return on_grid(self.total[None])[0]


def vectors_of(vectors: NDArray[Any], weights: list[int] | None) -> list[Vector]:
    weights = weights or [1] * len(vectors)
    return [
        Vector(point.astype(np.float64) * weight, [token])
        for token, (point, weight) in enumerate(zip(on_grid(vectors), weights, strict=True))
    ]


def merge(left: list[Vector], pairs: dict[int, int]) -> list[Vector]:
    for goes, into in pairs.items():
        left[into].total = left[into].total + left[goes].total
        left[into].tokens += left[goes].tokens
    return [vector for place, vector in enumerate(left) if place not in pairs]


def product(one: Vector, other: Vector) -> float:
    return float(one.direction.astype(np.float64) @ other.direction.astype(np.float64))


def labels_of(left: list[Vector], count: int) -> list[int]:
    labels = [-1] * count
    for number, vector in enumerate(left):
        for token in vector.tokens:
            labels[token] = number
    return labels


def tome(vectors: NDArray[Any], size: int, weights: list[int] | None = None) -> list[int]:
    """Merge the nearest pairs of an even and an odd place until few enough are left."""
    left = vectors_of(vectors, weights)
    while len(left) > size:
        merges = min(len(left) - size, max(len(left) // 2, 1))
        near = {}
        for even in range(0, len(left), 2):
            odds = range(1, len(left), 2)
            best = max(odds, key=lambda odd: (product(left[even], left[odd]), -odd))
            near[even] = (product(left[even], left[best]), best)
        going = sorted(near, key=lambda even: (-near[even][0], even))[:merges]
        left = merge(left, {even: near[even][1] for even in going})
    return labels_of(left, len(vectors))


def energies(left: list[Vector], margin: float | None) -> list[float]:
    """Return the mean of ELU(cosine - margin) over all tokens."""
    if margin is None:
        total = sum(vector.direction.astype(np.float64) for vector in left) / 4000
        margin = float(np.asarray(total) @ np.asarray(total)) / len(left) ** 2
    found = []
    for vector in left:
        above = [np.float32(product(vector, other) / 4000**2) - margin for other in left]
        found.append(sum(x if x > 0 else math.expm1(x) for x in above) / len(left))
    return found


def pitome(vectors: NDArray[Any], size: int, margin: float | None, pace: float) -> list[int]:
    """Merge tokens of high energy until few enough are left."""
    left = vectors_of(vectors, None)
    while len(left) > size:
        merges = min(len(left) - size, max(math.floor(len(left) * pace), 1))
        energy = energies(left, margin)
        order = sorted(range(len(left)), key=lambda place: (-energy[place], place))
        going, staying = order[0 : 2 * merges : 2], sorted(order[1 : 2 * merges : 2])
        pairs = {
            goes: max(staying, key=lambda stays: (product(left[goes], left[stays]), -stays))
            for goes in going
        }
        left = merge(left, pairs)
    return labels_of(left, len(vectors))


def visionzip(
    vectors: NDArray[Any], size: int, strength: list[float], dominant: float
) -> list[NDArray[np.float64]]:
    """Return the vectors left: strong tokens, and targets averaged with their guests' mean."""
    tokens = whole(vectors).astype(np.float64)
    count = min(round(size * dominant), size - 1)
    order = sorted(range(len(tokens)), key=lambda token: (-strength[token], token))
    strong, others = order[:count], sorted(order[count:])
    targets = [others[number * len(others) // (size - count)] for number in range(size - count)]
    guests: dict[int, list[int]] = {target: [] for target in targets}
    for token in others:
        if token not in targets:
            guests[max(targets, key=lambda t: (tokens[t] @ tokens[token], -t))].append(token)
    left = {token: vectors[token].astype(np.float64) for token in strong}
    for target, inside in guests.items():
        mean = vectors[target].astype(np.float64)
        if inside:
            mean = (mean + vectors[inside].astype(np.float64).mean(0)) / 2
        left[min([target, *inside])] = mean
    return [left[place] for place in sorted(left)]
