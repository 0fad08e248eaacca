"""Segments of plain vectors that are asked as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.candidates.base import Check, Found, go_on
from colreduce.candidates.vectors.base import Matrix
from colreduce.candidates.vectors.flat import FlatSearcher, settled
from colreduce.candidates.vectors.room import Room

# Neighbours of no more numbers are copied into memory as one: asking each takes longer than
# comparing its numbers. A thousand documents of 128 numbers, or a dozen of ten thousand.
JOINED_FLOATS = 1 << 17


class SideBySide:
    """Plain vectors of several segments. Large ones stay where they are mapped."""

    def __init__(self, parts: Sequence[FlatSearcher], before: Sequence[SideBySide] = ()) -> None:
        """``before`` is what stood here in an earlier view; what it copied is taken over."""
        held = [part for one in before for part in one._parts]
        copied = {one.parts[0]: one for one in held if isinstance(one, JoinedSearcher)}
        self._parts: list[FlatSearcher] = []
        for small, run in groupby(parts, lambda part: part.size <= JOINED_FLOATS):
            some = tuple(run)
            if small and len(some) > 1:
                self._parts.append(_joined(some, copied.get(some[0])))
            else:
                self._parts += some

    def search(
        self,
        queries: Matrix,
        k: int,
        allowed: NDArray[np.bool_] | None,
        check: Check = go_on,
    ) -> list[Found]:
        """Return the rows of the largest products; equal products by row."""
        return settled(self._parts, queries, k, allowed, check)

    def vectors(self, rows: NDArray[np.int64]) -> Matrix:
        """Return the vectors of some rows."""
        starts = np.cumsum([0, *(part.rows for part in self._parts)])
        where = np.searchsorted(starts, rows, "right") - 1
        by_part = np.concatenate(
            [
                part.vectors(rows[where == number] - starts[number])
                for number, part in enumerate(self._parts)
            ]
        )
        found = np.empty_like(by_part)
        found[np.argsort(where, kind="stable")] = by_part
        return found


class JoinedSearcher(FlatSearcher):
    """Several small segments as one. It keeps their rows in memory.

    A row's score is the product of the same numbers as before, so every answer is, too.
    """

    def __init__(self, parts: Sequence[FlatSearcher], before: JoinedSearcher | None = None) -> None:
        """``before`` holds the first of these parts; its rows are taken over, not copied."""
        self.parts = tuple(parts)
        have = 0 if before is None else before.rows
        fresh = parts if before is None else parts[len(before.parts) :]
        self._rooms: list[Room] = []
        joined = []
        for number, rows in enumerate(_laid_out(fresh)):
            room = Room(rows) if before is None else before._rooms[number].extended(have, rows)
            self._rooms.append(room)
            joined.append(room.rows(have + len(rows)))
        super().__init__(*joined)


def _joined(parts: tuple[FlatSearcher, ...], before: JoinedSearcher | None) -> JoinedSearcher:
    if before is None or before.parts != parts[: len(before.parts)]:
        return JoinedSearcher(parts)
    return before if before.parts == parts else JoinedSearcher(parts, before)


def _laid_out(parts: Sequence[FlatSearcher]) -> Iterator[Matrix]:
    """Yield the vectors of all parts end to end, then the scales if there are any."""
    yield torch.cat([part._vectors for part in parts]).numpy()
    scales = [part._scales for part in parts if part._scales is not None]
    if scales:
        yield torch.cat(scales).numpy()
