"""Spherical k-means for one document, one token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.reference.cover import whole

GRID = np.float32(4000)


def on_grid(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Scale to unit length and round every coordinate to 1/4000."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    return np.round(unit.astype(np.float32) * GRID)


def rounded(means: NDArray[Any]) -> NDArray[np.float64]:
    """Scale means to unit length, then so that the largest coordinate of all becomes 127."""
    norms = np.maximum(np.sqrt((means**2).sum(1, keepdims=True)), 1)
    largest = (np.abs(means).max(1, keepdims=True) / norms).max()
    return np.round(means * (min(127 / largest, 4000) / norms))


def strided(count: int, size: int) -> list[int]:
    """Return the middles of equal runs."""
    return [(2 * number + 1) * count // (2 * size) for number in range(size)]


def farthest(vectors: NDArray[Any], size: int) -> list[int]:
    """Start far from the mean, go on far from all seeds so far."""
    tokens = whole(vectors)
    mean = on_grid(tokens.sum(0, keepdims=True))[0]
    seeds = [int(np.argmin(tokens @ mean))]
    while len(seeds) < size:
        nearest = [max(float(token @ tokens[seed]) for seed in seeds) for token in tokens]
        seeds.append(int(np.argmin(nearest)))
    return seeds


def assign(tokens: NDArray[Any], centres: NDArray[Any]) -> list[int]:
    """Give each token to the nearest centre, then each centre without tokens a badly served one."""
    labels = [int(np.argmax(centres @ token)) for token in tokens]
    near = [float(centres[label] @ token) for label, token in zip(labels, tokens, strict=True)]
    best = {
        label: min(
            (t for t in range(len(tokens)) if labels[t] == label), key=lambda t: (-near[t], t)
        )
        for label in set(labels)
    }
    givers = [t for t in range(len(tokens)) if t not in best.values()]
    givers.sort(key=lambda t: (near[t], t))
    empty = [centre for centre in range(len(centres)) if centre not in best]
    for centre, token in zip(empty, givers, strict=False):
        labels[token] = centre
    return labels


def kmeans(
    vectors: NDArray[Any],
    seeds: list[int],
    iterations: int,
    weights: list[int] | None = None,
    real: bool = False,
) -> list[int]:
    """Return the centre of every token; with ``real`` centres are tokens themselves."""
    tokens = whole(vectors)
    weights = weights or [1] * len(tokens)
    centres = tokens[seeds].astype(np.float64)
    labels = assign(tokens, centres)
    for _ in range(iterations):
        means = [
            sum(
                weights[t] * tokens[t].astype(np.float64)
                for t, label in enumerate(labels)
                if label == number
            )
            for number in range(len(centres))
        ]
        centres = rounded(np.array(means))
        if real:
            middles = [
                max(
                    (t for t, label in enumerate(labels) if label == number),
                    key=lambda t: (float(tokens[t] @ centres[number]), -t),
                )
                for number in range(len(centres))
            ]
            centres = tokens[middles].astype(np.float64)
        labels = assign(tokens, centres)
    return labels
