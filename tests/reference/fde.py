"""Fixed dimensional encodings, token by token and block by block, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def block_number(token: Floats, planes: Floats, centre: Floats | None = None) -> int:
    """Read the signs of the products with the planes as a binary number."""
    number = 0
    for bit, plane in enumerate(planes):
        product = float(np.dot(plane, token if centre is None else token - centre))
        if product > 0:
            number += 2**bit
    return number


def nearest_token(numbers: list[int], block: int) -> int:
    """Return the first token whose number differs from ``block`` in the fewest bits."""
    distances = [bin(number ^ block).count("1") for number in numbers]
    return distances.index(min(distances))


def narrowed(token: Floats, matrix: Floats | None, dense: bool) -> Floats:
    """Multiply a token with one repetition's matrix [d, w]."""
    if matrix is None:
        return token
    return token @ matrix / (np.sqrt(matrix.shape[1]) if dense else 1.0)


def encode(
    tokens: Floats,
    planes: Floats,
    inner: Floats | None = None,
    *,
    document: bool,
    dense: bool = True,
    fill: bool = True,
    centre: Floats | None = None,
    weights: Floats | None = None,
) -> Floats:
    """Encode one item: every repetition, every block, every token in turn."""
    parts = []
    for repetition, normals in enumerate(planes):
        numbers = [block_number(token, normals, centre) for token in tokens]
        matrix = None if inner is None else inner[repetition]
        for block in range(2 ** len(normals)):
            inside = [place for place, number in enumerate(numbers) if number == block]
            total = np.zeros(len(tokens[0]) if matrix is None else matrix.shape[1])
            mass = 0.0
            for place in inside:
                weight = 1.0 if weights is None else weights[place]
                total = total + weight * narrowed(tokens[place], matrix, dense)
                mass += weight
            if document and inside:
                total = total / mass
            if document and fill and not inside:
                total = narrowed(tokens[nearest_token(numbers, block)], matrix, dense)
            parts.append(total)
    return np.concatenate(parts)


def count_sketch(encoding: Floats, columns: NDArray[np.int64], signs: Floats, width: int) -> Floats:
    """Add every input, with its sign, to its output."""
    out = np.zeros(width)
    for value, column, sign in zip(encoding, columns, signs, strict=True):
        out[column] += sign * value
    return out
