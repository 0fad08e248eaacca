"""A first stage's segment in memory, and the plain way to find the largest products."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Documents, FirstStage, Moved, Part, Parts
from colreduce.method import State


def opened(parts: Mapping[str, Moved], documents: int) -> Parts:
    """Return what a store would hand back: arrays and bytes that cannot be written to."""
    arrays, files = {}, {}
    for name, part in parts.items():
        if callable(part):
            stream = io.BytesIO()
            part(stream)
            files[name] = np.frombuffer(stream.getvalue(), np.uint8)
        else:
            blocks = [part] if isinstance(part, np.ndarray) else list(part)
            arrays[name] = np.concatenate(blocks)
            arrays[name].setflags(write=False)
    return Parts(arrays, files, documents)


def segment(method: FirstStage, state: State, batches: Sequence[Documents]) -> Parts:
    """Build a segment from batches of documents."""
    builder = method.builder(state)
    growing: dict[str, list[NDArray[Any]]] = {}
    for batch in batches:
        for name, rows in builder.add(batch).items():
            growing.setdefault(name, []).append(np.array(rows))
    parts: dict[str, Part] = {name: np.concatenate(rows) for name, rows in growing.items()}
    for name, part in builder.finish().items():
        assert name not in parts
        parts[name] = part
    return opened(parts, sum(len(batch.tokens) for batch in batches))


def largest(
    vectors: NDArray[Any], query: NDArray[Any], k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[list[int], list[float]]:
    """Sort all rows by product, then by number."""
    scores = [float(np.dot(row.astype(np.float64), query.astype(np.float64))) for row in vectors]
    rows = [row for row in range(len(scores)) if allowed is None or allowed[row]]
    rows.sort(key=lambda row: (-scores[row], row))
    return rows[:k], [scores[row] for row in rows[:k]]
