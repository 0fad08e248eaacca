"""A queue of changes: one thread writes for many, and what waits meanwhile is committed together.

Forcing one small commit to the disk takes as long as forcing a hundred, so the queue collects
whatever comes while the last commit is being written, and writes all of it as one small segment.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from colreduce.errors import BadInput, Overloaded
from colreduce.index import limits
from colreduce.index.batch import Encoded, encoded, joined
from colreduce.ragged import Ragged

if TYPE_CHECKING:
    from colreduce.index.index import Index

# What one commit takes at most.
GROUP_DOCUMENTS = 256
GROUP_BYTES = 8 << 20

# What may wait at most; more is turned away, so that memory stays bounded.
WAITING_DOCUMENTS = 16 * GROUP_DOCUMENTS
WAITING_BYTES = 16 * GROUP_BYTES


@dataclass(frozen=True, slots=True)
class Written:
    """A change that is on the disk and that every later search sees."""

    generation: int
    existing: int  # how many of its ids were there before it


@dataclass(slots=True)
class _Change:
    """What one call asked for: documents to put, or ids to delete."""

    ids: Sequence[str]
    parts: list[Encoded]  # empty for a deletion
    bytes: int
    future: Future[Written] = field(default_factory=Future)


class WriteQueue:
    """Takes changes from many threads and commits them in the order in which they came.

    A future is done when its change is on the disk and every later search sees it; it raises what
    kept the change from being written. The changes of one call are committed together. One that
    cannot be used does not touch the others.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._changed = threading.Condition()
        self._waiting: list[_Change] = []
        self._documents = self._bytes = 0  # of what waits
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="write-queue", daemon=True)
        self._thread.start()

    def submit_upsert(
        self,
        ids: Sequence[str],
        documents: Sequence[str] | None = None,
        *,
        embeddings: Sequence[Any] | Ragged | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> Future[Written]:
        """Put documents, given as `Index.add` takes them; texts are encoded before this returns.

        Raises `BadInput` at once for what cannot be used, `Overloaded` when too much waits, and
        `CompactionBehind` when there are too many small segments.
        """
        self._index.upkeep.require_room()
        self._require_room(len(ids), 0)
        parts = list(encoded(self._index, ids, documents, embeddings, metadata))
        size = sum(part.vectors.tokens.nbytes for part in parts)
        return self._submit(_Change(ids, parts, size))

    def submit_delete(self, ids: Sequence[str]) -> Future[Written]:
        """Delete documents; those that are not there are passed over."""
        limits.check_ids(ids)
        return self._submit(_Change(ids, [], 0))

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> WriteQueue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _submit(self, change: _Change) -> Future[Written]:
        with self._changed:
            self._require_room(len(change.ids), change.bytes)
            self._waiting.append(change)
            self._documents += len(change.ids)
            self._bytes += change.bytes
            self._changed.notify_all()
        return change.future

    def _require_room(self, documents: int, size: int) -> None:
        with self._changed:
            if self._closed:
                raise BadInput("the queue has been closed")
            full = (
                self._documents + documents > WAITING_DOCUMENTS
                or self._bytes + size > WAITING_BYTES
            )
            if self._waiting and full:
                raise Overloaded(f"{self._documents:,} changes wait to be written: try again later")

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            _settle(group, self._index)

    def _next_group(self) -> list[_Change] | None:
        """Wait for changes; return what goes into one commit, None when the queue is closed."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            documents = size = taken = 0
            for change in self._waiting:
                documents, size = documents + len(change.ids), size + change.bytes
                if taken and (documents > GROUP_DOCUMENTS or size > GROUP_BYTES):
                    break
                taken += 1
            group, self._waiting = self._waiting[:taken], self._waiting[taken:]
            self._documents -= sum(len(change.ids) for change in group)
            self._bytes -= sum(change.bytes for change in group)
        return [change for change in group if change.future.set_running_or_notify_cancel()]


def _settle(group: Sequence[_Change], index: Index) -> None:
    """Commit the changes and tell their futures; what fails together is tried one by one.

    One change may be at fault for all, and on a full disk deletions still go through.
    """
    try:
        written = _commit(group, index)
    except Exception as problem:
        if len(group) == 1:
            group[0].future.set_exception(problem)
            return
        for change in group:
            _settle([change], index)
        return
    for change, done in zip(group, written, strict=True):
        change.future.set_result(done)


def _commit(group: Sequence[_Change], index: Index) -> list[Written]:
    """Write the last change of every id; an earlier one would be replaced unseen."""
    with index.batch() as batch:
        there: dict[str, bool] = {}  # whether an id is there after the changes so far
        existing = []
        for change in group:
            existing.append(sum(there.get(one, one in index) for one in change.ids))
            there |= dict.fromkeys(change.ids, bool(change.parts))
        last = {one: number for number, change in enumerate(group) for one in change.ids}
        parts = [
            part.take([row for row, one in enumerate(part.ids) if last[one] == number])
            for number, change in enumerate(group)
            for part in change.parts
        ]
        for part in joined([part for part in parts if part.ids]):
            batch.put(part)
        batch.delete([one for one, stays in there.items() if not stays and one in index])
    return [Written(index.generation, count) for count in existing]
