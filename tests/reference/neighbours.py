"""Mergers that go by place: runs of neighbours, blocks of patches, pieces of words."""

from __future__ import annotations

import math


def window(count: int, size: int) -> list[int]:
    """Cut a document into equal runs."""
    return [place * size // count for place in range(count)]


def blocks(rows: int, columns: int, wanted: int) -> list[int]:
    """Cut a page into bands, and each band into blocks, row by row."""
    bands = round(math.sqrt(wanted * rows / columns))
    bands = min(max(bands, math.ceil(wanted / columns)), rows, wanted)
    ends = [wanted * (band + 1) // bands for band in range(bands)]
    starts = [0, *ends[:-1]]
    labels = []
    for row in range(rows):
        band = row * bands // rows
        inside = ends[band] - starts[band]
        labels += [starts[band] + column * inside // columns for column in range(columns)]
    return labels


def grid(count: int, first: int, rows: int, columns: int, size: int) -> list[int]:
    """Give the patches and the other tokens their shares of the vectors."""
    patches = rows * columns
    others = count - patches
    if patches == 0 or others == 0:
        return window(count, size) if patches == 0 else blocks(rows, columns, size)
    runs = math.floor(size * others / count + 0.5)
    runs = min(max(runs, 1), size - 1) if size > 1 else runs
    inside = blocks(rows, columns, size - runs) if size > runs else [-1] * patches
    around = window(others, runs) if runs else [0] * others
    labels = around[:first] + [runs + block for block in inside] + around[first:]
    return labels


def words(word_ids: list[int], token_ids: list[int], unique: bool) -> list[list[int]]:
    """Group the places of tokens by their word, or by how the word is spelt."""
    groups: dict[object, list[int]] = {}
    for place, word in enumerate(word_ids):
        pieces = [token for token, other in zip(token_ids, word_ids, strict=True) if other == word]
        key: object = (-1, place) if word < 0 else (tuple(pieces) if unique else word)
        groups.setdefault(key, []).append(place)
    return list(groups.values())
