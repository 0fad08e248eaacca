"""Moving documents from several segments into one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import FirstStage, Parts
from colreduce.index.build import FIRST, GRID
from colreduce.index.sample import merge_samples
from colreduce.index.search import View, parts_of
from colreduce.store import Segment, SegmentWriter


def merge(
    view: View, moved: Sequence[tuple[Segment, NDArray[np.int64]]], writer: SegmentWriter
) -> None:
    """Make the files of a new segment that the store cannot make from those of the old ones."""
    if not moved:
        return
    rows = sum(len(some) for _, some in moved)
    merge_samples(max(rows, view.snapshot.count), moved, writer)
    _merge_grids(moved, writer)
    for key, method in view.pipeline.recipe.keyed():
        if isinstance(method, FirstStage):
            old = _OneByOne([(parts_of(segment, key), rows) for segment, rows in moved], moved)
            state = view.pipeline.states.get(key, {})
            for name, part in method.merge(old, state).items():
                full = f"{FIRST}{key}.{name}"
                if callable(part):
                    writer.blob(full, part)
                    continue
                for block in [part] if isinstance(part, np.ndarray) else part:
                    writer.append(full, block)


class _OneByOne(Sequence[tuple[Parts, NDArray[np.int64]]]):
    """The parts of many segments; the memory that one took is given back before the next."""

    def __init__(
        self,
        parts: Sequence[tuple[Parts, NDArray[np.int64]]],
        moved: Sequence[tuple[Segment, NDArray[np.int64]]],
    ) -> None:
        self._parts = parts
        self._moved = moved

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, place: Any) -> Any:
        return self._parts[place]

    def __iter__(self) -> Iterator[tuple[Parts, NDArray[np.int64]]]:
        for pair, (segment, _) in zip(self._parts, self._moved, strict=True):
            yield pair
            segment.data.let_go()


def _merge_grids(moved: Sequence[tuple[Segment, NDArray[np.int64]]], writer: SegmentWriter) -> None:
    """Keep the grids of pages where only some of the segments have any; else the store does."""
    known = [GRID in segment.arrays for segment, _ in moved]
    if all(known) or not any(known):
        return
    for segment, rows in moved:
        grid = segment.arrays.get(GRID)
        some = np.zeros((len(rows), 3), "<u2") if grid is None else grid[rows]
        writer.append(GRID, some, per="document")
