"""Moving the centres of k-means."""

from __future__ import annotations

from typing import Any

import numpy as np

from colreduce.reduce.kernels.compiling import (
    I32,
    I64,
    Numbers,
    first_largest,
    native,
    vectorised,
    weight_of,
)


@native
def move_centres(
    products: Numbers,
    tokens: Numbers,
    weights: Numbers,
    lengths: Numbers,
    sizes: Numbers,
    labels: Numbers,
    centres: Numbers,
    moved: Numbers,
) -> None:
    """Give every token to the nearest centre, and every centre to the mean of its tokens.

    products  [b, l, k] int32  products of tokens and centres
    tokens    [b, l, d] int8
    weights   [b, l] or [b, 0]  how much each token pulls; nothing says all alike
    labels    [b, l]            overwritten; centres [b, k, d] int8 likewise
    moved     [b]               filled: did any token change its centre
    """
    for item in range(len(lengths)):
        length, size = lengths[item], sizes[item]
        moved[item] = _assign(products[item], length, size, labels[item])
        if moved[item]:
            _average(tokens[item], weights[item], length, size, labels[item], centres[item])


@native
def _assign(products: Any, length: int, size: int, labels: Any) -> bool:
    moved = False
    counts = np.zeros(size, I64)
    found = np.empty(length, I64)
    for token in range(length):
        nearest = first_largest(products[token, :size])
        counts[nearest] += 1
        found[token] = nearest
    if counts.min() == 0:
        _fill(products, found, counts)
    for token in range(length):
        moved |= labels[token] != found[token]
        labels[token] = found[token]
    return moved


@native
def _fill(products: Any, labels: Any, counts: Any) -> None:
    """Give the centres without tokens the worst served ones; every group keeps its best."""
    best = np.full(len(counts), -1, I64)
    near = np.empty(len(labels), I64)
    for token in range(len(labels)):
        label = labels[token]
        near[token] = products[token, label]
        if best[label] < 0 or near[token] > near[best[label]]:
            best[label] = token
    order = np.argsort(near, kind="mergesort")
    place = 0
    for centre in range(len(counts)):
        if counts[centre] == 0:
            while best[labels[order[place]]] == order[place]:
                place += 1
            labels[order[place]] = centre
            place += 1


@native
def _average(tokens: Any, weights: Any, length: int, size: int, labels: Any, centres: Any) -> None:
    """Round the directions of the groups' means: the largest coordinate of all becomes 127."""
    sums = np.zeros((size, tokens.shape[1]), I32)
    for token in range(length):
        _add_to(sums[labels[token]], tokens[token], weight_of(weights, token))
    norms = np.empty(size, np.float64)
    largest = 1e-6
    for centre in range(size):
        norms[centre] = max(np.sqrt(np.float64(_square(sums[centre]))), 1.0)
        largest = max(largest, _farthest(sums[centre]) / norms[centre])
    scale = min(127 / largest, 4000.0)
    for centre in range(size):
        _scale(sums[centre], scale / norms[centre], centres[centre])


@native
def _add_to(total: Any, row: Any, weight: Any) -> None:
    for axis in range(len(row)):
        total[axis] += weight * I32(row[axis])


@native
def _square(row: Any) -> int:
    total = I64(0)
    for axis in range(len(row)):
        total += I64(row[axis]) * I64(row[axis])
    return total


@native
def _farthest(row: Any) -> int:
    """Return the largest whole number of a row, whatever its sign."""
    most = I32(0)
    for axis in range(len(row)):
        most = max(most, max(row[axis], -row[axis]))
    return most


@vectorised
def _scale(row: Any, factor: float, out: Any) -> None:
    for axis in range(len(row)):
        out[axis] = np.rint(row[axis] * factor)
