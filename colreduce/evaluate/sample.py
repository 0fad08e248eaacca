"""Which documents the methods of a recipe learn from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

# Documents that methods learn from: enough for codebooks, and bounded whatever the corpus.
SAMPLE = 512


def reservoir(items: Iterable[T], size: int, seed: int) -> list[T]:
    """Draw ``size`` items of a stream of unknown length, each equally likely, in stream order.

    What is drawn depends on the seed and on the number of items only, so that an evaluation and
    a batch build learn from the same documents.
    """
    draw = random.Random(seed)
    kept: list[tuple[int, T]] = []
    for number, item in enumerate(items):
        if number < size:
            kept.append((number, item))
        elif (place := draw.randrange(number + 1)) < size:
            kept[place] = (number, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


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
