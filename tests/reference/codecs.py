"""Codecs as they are defined, one number at a time; and one score in double precision."""

from __future__ import annotations

import numpy as np


def scaled_steps(vector: np.ndarray, most: int) -> np.ndarray:
    """Round a vector's numbers to ``most`` equal steps either way, in double precision."""
    largest = float(np.abs(vector.astype(np.float64)).max())
    if largest == 0:
        return np.zeros(len(vector), dtype=np.int64)
    scale = np.float16(largest / most)
    if float(scale) * most < largest:
        scale = np.nextafter(scale, np.float16(np.inf))
    return np.array([round(float(number) / float(scale)) for number in vector], dtype=np.int64)


def residual_decoded(code: dict[str, np.ndarray], state: dict[str, np.ndarray], bits: int):
    """Add to a centroid what each group of bits stands for, lowest bits first; unit length."""
    vector = state["centroids"][int(code["centroids"])].astype(np.float64)
    for place in range(len(vector)):
        first = place * bits
        bucket = int(code["tokens"][first // 8]) >> (first % 8) & (2**bits - 1)
        vector[place] += float(state["weights"][bucket])
    return vector / np.linalg.norm(vector)


def pq_numbers(vector: np.ndarray, books: np.ndarray) -> list[int]:
    """Return the nearest entry of each part's codebook."""
    parts = vector.astype(np.float64).reshape(len(books), -1)
    pairs = zip(parts, books.astype(np.float64), strict=True)
    return [int(np.argmin([((part - entry) ** 2).sum() for entry in book])) for part, book in pairs]
