"""Which documents the methods of a recipe learn from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

# Documents that methods learn from: enough for codebooks, and bounded whatever the corpus.
SAMPLE = 512


class Draw:
    """Decides of one item of a stream after the other whether it is among those drawn.

    Each is equally likely to be kept in the end. What is drawn depends on the seed and on the
    number of items only, so that an evaluation and a batch build learn from the same documents.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._chance = random.Random(seed)
        self._seen = 0

    def next(self) -> int | None:
        """Return the place that the next item takes, from which it may drive out another."""
        number, self._seen = self._seen, self._seen + 1
        place = number if number < self._size else self._chance.randrange(number + 1)
        return place if place < self._size else None


def reservoir(items: Iterable[T], size: int, seed: int) -> list[T]:
    """Draw ``size`` items of a stream of unknown length, as `Draw` does, in stream order."""
    draw = Draw(size, seed)
    kept: dict[int, tuple[int, T]] = {}
    for number, item in enumerate(items):
        if (place := draw.next()) is not None:
            kept[place] = (number, item)
    return [item for _, item in sorted(kept.values(), key=lambda pair: pair[0])]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield a stream as lists of ``size`` items; the last one may be shorter."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
