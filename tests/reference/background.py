"""Merging what looks alike, written out for one page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def background(vectors: NDArray[Any], special: Sequence[bool], within: float) -> list[int]:
    """Return for every token the position of the token that takes it in."""
    owners = list(range(len(vectors)))
    free = [not mark for mark in special]
    for place in range(len(vectors)):
        if not free[place]:
            continue
        for other in range(len(vectors)):
            cosine = vectors[place] @ vectors[other] / np.linalg.norm(vectors[place])
            if free[other] and cosine / np.linalg.norm(vectors[other]) >= 1 - within:
                owners[other], free[other] = place, False
    return owners
