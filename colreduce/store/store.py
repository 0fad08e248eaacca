"""Store: the one object that opens, reads and commits an index folder."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from colreduce.errors import (
    AlreadyExists,
    BadInput,
    Damaged,
    DiskFull,
    Locked,
    NotAnIndex,
    ReadOnly,
)
from colreduce.store import backup, ballast, creation, layout, manifest
from colreduce.store.committer import Committer
from colreduce.store.compact import Rewrite, chosen, gather
from colreduce.store.compact import due as worth_compacting
from colreduce.store.publish import Change
from colreduce.store.segment import Segment, SegmentData
from colreduce.store.snapshot import Snapshot, open_snapshot
from colreduce.store.staging import Staging
from colreduce.store.writer import SegmentWriter

_TRIES = 5


def _go_on() -> None:
    """Never give up."""


class Store:
    """An index folder. One process may write to it, any number may read it meanwhile."""

    def __init__(self, path: Path, verify: str = "full") -> None:
        """Open nothing yet; use ``create`` or ``open``."""
        if verify not in {"full", "sizes"}:
            raise BadInput(f"verify must be 'full' or 'sizes', got {verify!r}.", field="verify")
        self.path = Path(path)
        self._verify = verify
        self._snapshot: Snapshot | None = None
        self._alive: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self._committer: Committer | None = None
        self._made: list[Path] = []  # the folders that were made for it
        self._mutex = threading.RLock()  # held for a commit
        self._compacting = threading.Lock()

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> Store:
        """Make an empty index in a new or empty folder and open it for writing.

        If it fails, nothing is left behind.
        """
        plain = layout.plain_json(dict(config), "the configuration")
        store = cls(path)
        creation.require_vacant(store.path)
        made = creation.make_folders(store.path)
        try:
            store._committer = Committer(store.path, store._in_use)
            if manifest.generations(store.path):
                raise AlreadyExists(f"{path} already holds an index.")
            store._show(store._committer.found(plain))
        except BaseException as problem:
            if not isinstance(problem, Locked):
                creation.clear_away(store.path, made)
            store.close()
            raise
        return store

    @classmethod
    def prepare(
        cls,
        path: Path,
        config: Mapping[str, Any],
        models: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    ) -> Store:
        """Begin an index that appears, whole, with its first commit; or go on with one.

        Until then nobody can open it. What is finished of it meanwhile is kept by `Staging`.
        ``models`` are those that its segments will share, where they are known already.
        """
        plain = layout.plain_json(dict(config), "the configuration")
        store = cls(path)
        creation.require_vacant(store.path, begun=True)
        store._made = creation.make_folders(store.path)
        try:
            store._committer = Committer(store.path, store._in_use)
            creation.require_vacant(store.path, begun=True)  # now that nobody else may change it
            store._show(store._committer.prepare(plain, models or {}))
        except BaseException as problem:
            if not isinstance(problem, (Locked, AlreadyExists)):
                store.discard()
            store.close()
            raise
        return store

    def discard(self) -> None:
        """Clear away an index that was prepared and has no documents yet."""
        if not (self.path / layout.BUILDING).exists():
            creation.clear_away(self.path, self._made)

    @classmethod
    def open(cls, path: Path, *, write: bool = False, verify: str = "full") -> Store:
        """Open an index after checking its files.

        ``verify`` is ``full`` (every byte) or ``sizes`` (what is parsed, and the lengths of the
        rest), for indexes too big to be read at every start.
        """
        store = cls(path, verify)
        if not store.path.is_dir():
            raise NotAnIndex(f"{store.path} is no folder, so it holds no colreduce index.")
        if write:
            store.acquire()
        else:
            store.refresh()
        return store

    @classmethod
    def restore(cls, source: Path, path: Path) -> Store:
        """Make an index from a file that ``save_to`` wrote, and open it for writing.

        Every byte is checked before the index appears under its name.
        """
        backup.restore(Path(source), Path(path))
        return cls.open(path, write=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.path}: {self._snapshot or 'closed'}>"

    @property
    def config(self) -> Mapping[str, Any]:
        """What was fixed when the index was created."""
        return self.snapshot().config

    @property
    def writable(self) -> bool:
        """Whether this is the writer, and may still write."""
        return self._committer is not None and self._committer.may_write

    @property
    def trouble(self) -> str:
        """Why the writer has stopped; empty while all is well."""
        return self._committer.poisoned if self._committer is not None else ""

    def snapshot(self) -> Snapshot:
        """Return the current view; it stays as it is whatever happens later."""
        current = self._snapshot
        if current is None:
            raise BadInput(f"{self.path} has been closed.")
        return current

    def refresh(self) -> Snapshot:
        """Look for a newer generation and return the newest; segments seen before stay open."""
        with self._mutex:
            if self._committer is None:
                self._show(self._newest(_TRIES))
            return self.snapshot()

    def acquire(self) -> None:
        """Become the writer: take the lock, check everything, clear away what crashes left."""
        with self._mutex:
            if self._committer is not None:
                return
            if not manifest.generations(self.path):
                manifest.newest(self.path)  # says what is wrong, and leaves no LOCK behind
            committer = Committer(self.path, self._in_use)
            try:
                snapshot = self._newest(0)
                committer.recover(snapshot)
            except BaseException:
                committer.release()
                raise
            self._committer = committer
            self._show(snapshot)

    def begin(self) -> SegmentWriter:
        """Start a segment; nobody sees it before it is committed."""
        committer = self._writing()
        return SegmentWriter(self.path / layout.SEGMENTS, committer.guard)

    def commit(
        self,
        segments: Sequence[SegmentWriter] = (),
        *,
        models: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish all of it as one new generation and return its number.

        When this returns, the change has reached the disk and every later snapshot shows it. When
        it raises, nothing was changed, except after ReadOnly: then reopening tells. ``models`` are
        kept from then on, ``notes`` are merged into those of earlier commits.
        """
        writers = list(segments)
        try:
            with self._mutex:
                committer = self._writing()
                told = layout.plain_json(dict(notes or {}), "the notes")
                change = Change(writers, dict(models or {}), told)
                change.drop_empty()
                if not change.nothing:
                    committer.commit(self.snapshot(), change, self._show)
                return self.snapshot().generation
        except BaseException:
            for writer in writers:
                writer.abort()
            raise

    def gathered(self, pieces: Sequence[Segment], rewrite: Rewrite) -> SegmentWriter:
        """Make one segment of pieces that were built one by one; it is ready to be committed."""
        with self.begin() as writer:
            gather(self.snapshot(), pieces, writer, rewrite, _go_on)
            writer.seal(0)
        return writer

    @property
    def staging(self) -> Staging:
        """Return the place of what is finished of an index before it appears."""
        return Staging(self.path, self._writing().guard)

    def due(self) -> list[str]:
        """Return the names of the segments that it would pay to compact now; often none."""
        return worth_compacting(self.snapshot())

    def compact(
        self,
        segments: Sequence[str] | None = None,
        *,
        due: bool = False,
        purge: bool = False,
        rewrite: Rewrite | None = None,
        check: Callable[[], None] = _go_on,
    ) -> int:
        """Move the live rows of these segments, or of all, into one; return the generation.

        With ``due``, the segments are those that it would pay to compact; often there are none.

        The store moves documents, texts and every array whose ``append`` said what its rows belong
        to. ``rewrite(moved, writer)`` is called for the rest: ``moved`` lists each old segment with
        the rows that were taken from it, in their new order. Other threads may read and commit
        meanwhile. The old files go when no kept generation shows them; with ``purge`` all segments
        are compacted and every byte of older generations is gone when this returns. ``check`` is
        called now and then, and may raise to give up; then nothing was changed.
        """
        with self._compacting:
            names = worth_compacting(self.snapshot()) if due else segments
            again = partial(self._compact, None if purge else names, purge, rewrite, check)
            try:
                return again()
            except DiskFull:
                if not ballast.release(self.path):
                    raise
                return again()

    @property
    def waste(self) -> bool:
        """Whether there are files that no kept generation needs and that can go in time."""
        return self._committer is not None and self._committer.waste

    def collect(self) -> list[str]:
        """Remove what no kept generation needs and what has been so for a while; return names."""
        with self._mutex:
            return self._writing().collect(self.snapshot())

    def save_to(self, target: Path) -> int:
        """Write one generation into one new file, to be restored elsewhere; return its number."""
        for _ in range(_TRIES):
            snapshot = self.refresh()
            try:
                backup.save(self.path, snapshot, Path(target))
                return snapshot.generation
            except FileNotFoundError:  # another process has moved on and removed old files
                if self.refresh() is snapshot:
                    raise
        raise Damaged(f"{self.path} changed too fast to be copied; stop its writer and try again.")

    def close(self) -> None:
        """Give up the lock and the files. Snapshots that are still held stay readable."""
        with self._mutex:
            committer, self._committer = self._committer, None
            if committer is not None:
                committer.release()
            self._snapshot = None

    def _compact(
        self,
        names: Sequence[str] | None,
        purge: bool,
        rewrite: Rewrite | None,
        check: Callable[[], None],
    ) -> int:
        committer = self._writing()
        before = self.snapshot()
        inputs = chosen(before, names)
        if not inputs and not purge:
            return before.generation
        with self.begin() as writer:
            moved = gather(before, inputs, writer, rewrite, check) if inputs else ()
            if not writer.empty:
                writer.seal(0)  # the long part, while others may still commit
            with self._mutex:
                removed = frozenset(segment.name for segment in inputs)
                change = Change([writer], {}, {}, removed, moved, purge)
                change.drop_empty()
                committer.commit(self.snapshot(), change, self._show)
                return self.snapshot().generation

    def _newest(self, tries: int) -> Snapshot:
        """Open the newest generation.

        A writer may remove files under a reader, which then looks again; but files go, and a list
        of names is out of date, only after a newer generation. Without one it is damage.
        """
        current = self._snapshot
        known: dict[str, SegmentData] = {}
        if current is not None:
            known = {segment.name: segment.data for segment in current.segments}
        for attempt in range(tries + 1):
            seen = manifest.generations(self.path)
            try:
                found, sha256 = manifest.newest(self.path)
                if current is not None and current.sha256 == sha256:
                    return current
                return open_snapshot(self.path, found, sha256, self._verify, known, current)
            except (FileNotFoundError, Damaged) as problem:
                if attempt < tries and manifest.generations(self.path)[-1:] != seen[-1:]:
                    continue
                if isinstance(problem, Damaged):
                    raise
                raise Damaged(
                    f"{problem.filename} is missing. Restore the index from a snapshot."
                ) from problem
        raise AssertionError("the loop returns or raises")

    def _show(self, snapshot: Snapshot) -> None:
        self._alive.add(snapshot)
        self._snapshot = snapshot

    def _in_use(self) -> set[str]:
        names: set[str] = set()
        for snapshot in list(self._alive):
            names |= snapshot.manifest.names()
        return names

    def _writing(self) -> Committer:
        if self._committer is None:
            raise ReadOnly(
                f"{self.path} is open for reading. Open it with write=True, or call acquire()."
            )
        self._committer.require()
        return self._committer
