"""Compaction: the live rows of several segments move into one new segment.

The inputs are fixed when it starts. Documents that are put or deleted meanwhile supersede the
copies just as they would have superseded the originals, because the copies keep their seqs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import BadInput
from colreduce.store import records
from colreduce.store.segment import Segment
from colreduce.store.snapshot import Snapshot
from colreduce.store.writer import SegmentWriter

MOST_SEGMENTS = 32  # more of them slow every search
DEAD_SHARE = 0.2  # dead rows above this share are worth the rewriting
_BLOCK = 4096  # documents moved at a time
_NOTHING = np.empty((0, 0, 0, 0))  # stands for an array that a segment lacks; fits no other

Moved = Sequence[tuple[Segment, NDArray[np.int64]]]
Rewrite = Callable[[Moved, SegmentWriter], None]


def due(snapshot: Snapshot) -> list[str]:
    """Return the names of the segments that it would pay to compact now; often none."""
    segments = snapshot.segments
    if len(segments) > MOST_SEGMENTS:
        smallest = sorted(segments, key=lambda segment: sum(segment.bytes.values()))
        return [segment.name for segment in smallest[: len(segments) - MOST_SEGMENTS // 2]]
    rows = sum(segment.rows for segment in segments)
    if rows - snapshot.count <= DEAD_SHARE * rows:
        return []
    return [s.name for s in segments if s.rows - s.count > DEAD_SHARE * s.rows or not s.rows]


def chosen(snapshot: Snapshot, names: Sequence[str] | None) -> list[Segment]:
    """Return the segments to compact: those named, or all if that would change anything."""
    by_name = {segment.name: segment for segment in snapshot.segments}
    if names is not None:
        missing = [name for name in names if name not in by_name]
        if missing:
            raise BadInput(f"there is no segment {missing[0]!r} in {snapshot!r}.")
        return [segment for segment in snapshot.segments if segment.name in set(names)]
    clean = len(by_name) <= 1 and all(
        segment.count == segment.data.records.count for segment in snapshot.segments
    )
    return [] if clean else list(snapshot.segments)


def gather(
    snapshot: Snapshot,
    inputs: Sequence[Segment],
    writer: SegmentWriter,
    rewrite: Rewrite | None,
    check: Callable[[], None],
) -> Moved:
    """Write the live rows and the tombstones that are still needed; return what was moved.

    ``check`` is called between blocks and may raise to give up.
    """
    moved = [(segment, np.flatnonzero(segment.live)) for segment in inputs]
    moved = [(segment, rows) for segment, rows in moved if len(rows)]
    for segment, rows in moved:
        for begin in range(0, len(rows), _BLOCK):
            check()
            some = rows[begin : begin + _BLOCK]
            texts, ends = segment.data.texts, segment.data.text_ends
            told = None if texts is None or ends is None else records.picked(texts, ends, some)
            writer.carry(segment.data.records.take(some), texts=told)
        segment.data.let_go()
    for segment, deletes in _needed_tombstones(snapshot, inputs):
        writer.carry_deletes(segment.data.records.take(deletes))
    by_store = _movable(moved)
    for name, dtype in by_store.items():
        for segment, rows in moved:
            for block in _blocks(segment, name, rows):
                check()
                rows_of_one_kind = block.astype(dtype, copy=False)
                writer.append(name, rows_of_one_kind, per=segment.data.per[name])
            segment.data.let_go()
    left = {name for segment, _ in moved for name in [*segment.arrays, *segment.data.buffers]}
    left -= set(by_store)
    if left and rewrite is None:
        raise BadInput(
            f"compaction cannot move {', '.join(sorted(left))} by itself: "
            "give a rewrite function, or say in append() what its rows belong to."
        )
    info = [dict(segment.info) for segment, _ in moved]
    writer.note(**{k: v for k, v in (info or [{}])[0].items() if all(i.get(k) == v for i in info)})
    check()
    if rewrite is not None and moved:
        rewrite(moved, writer)
    return moved


def _movable(moved: Moved) -> dict[str, np.dtype[Any]]:
    """Return the arrays that all inputs have alike and that say what their rows belong to.

    Single whole numbers may be of different widths; the widest is taken.
    """
    found: dict[str, np.dtype[Any]] = {}
    for name, array in moved[0][0].arrays.items() if moved else ():
        theirs = [segment.arrays.get(name, _NOTHING) for segment, _ in moved]
        pers = [segment.data.per.get(name) for segment, _ in moved]
        counts = array.ndim == 1 and all(other.dtype.kind in "iu" for other in theirs)
        if (
            pers[0] is not None
            and len(set(pers)) == 1
            and all(other.shape[1:] == array.shape[1:] for other in theirs)
            and (counts or all(other.dtype == array.dtype for other in theirs))
        ):
            found[name] = np.result_type(*theirs)
    return found


def _blocks(segment: Segment, name: str, rows: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
    """Yield the part of an array that belongs to these documents, some documents at a time."""
    array, per = segment.arrays[name], segment.data.per[name]
    if per == "document":
        for begin in range(0, len(rows), _BLOCK):
            yield array[rows[begin : begin + _BLOCK]]
        return
    ends = records.ends_of(segment.arrays[str(per)])
    for begin in range(0, len(rows), _BLOCK):
        yield records.picked(array, ends, rows[begin : begin + _BLOCK])[0]


def _needed_tombstones(
    snapshot: Snapshot, inputs: Sequence[Segment]
) -> list[tuple[Segment, NDArray[np.int64]]]:
    """Return the deletions that still hide something, by segment.

    One may go only if no segment outside the inputs holds an older record of its id; otherwise the
    deleted document would come back.
    """
    names = {segment.name for segment in inputs}
    outside = [s.data.records for s in snapshot.segments if s.name not in names]
    wins = records.winners([segment.data.records for segment in snapshot.segments])
    needed = []
    for segment, win in zip(snapshot.segments, wins, strict=True):
        docs = segment.data.records
        if segment.name not in names or docs.rows == docs.count:
            continue
        hiding = {
            theirs
            for other in outside
            for ours, theirs in other.matches(docs)
            if theirs >= docs.rows and other.seqs[ours] < docs.seqs[theirs] and win[theirs]
        }
        if hiding:
            needed.append((segment, np.array(sorted(hiding), np.int64)))
    return needed
