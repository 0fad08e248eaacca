"""Store: the one object that opens, reads and commits an index folder."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from colreduce.store import fs, layout, manifest, recovery
from colreduce.store.catalogue import Catalogue
from colreduce.store.collect import Collector
from colreduce.store.manifest import Manifest
from colreduce.store.publish import Change, place, undo
from colreduce.store.segment import Segment, SegmentData
from colreduce.store.snapshot import Snapshot, open_snapshot
from colreduce.store.writer import SegmentWriter

log = logging.getLogger(__name__)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TRIES = 5


class Store:
    """An index folder. One process may write to it, any number may read it meanwhile."""

    def __init__(self, path: Path, verify: str) -> None:
        if verify not in {"full", "sizes"}:
            raise BadInput(f"verify must be 'full' or 'sizes', got {verify!r}.", field="verify")
        self.path = Path(path)
        self._verify = verify
        self._snapshot: Snapshot | None = None
        self._alive: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self._lock: fs.WriterLock | None = None
        self._owner = 0
        self._catalogue = Catalogue(self.path)
        self._catalogue_stale = False
        self._poisoned = ""
        self._collector = Collector(self.path, self._in_use)
        self._mutex = threading.RLock()

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> Store:
        """Make an empty index in a new or empty folder and open it for writing."""
        plain = layout.plain_json(dict(config), "the configuration")
        store = cls(path, "full")
        made = _require_vacant(store.path)
        try:
            store._found(plain)
        except BaseException as problem:
            if not isinstance(problem, Locked):
                _clear_away(store.path, made)
            store.close()
            raise
        return store

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

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def config(self) -> Mapping[str, Any]:
        """What was fixed when the index was created."""
        return self.snapshot().config

    @property
    def writable(self) -> bool:
        """Whether this is the writer, and may still write."""
        return self._lock is not None and not self._poisoned and self._owner == os.getpid()

    def snapshot(self) -> Snapshot:
        """Return the current view; it stays as it is whatever happens later."""
        if self._snapshot is None:
            raise BadInput(f"{self.path} has been closed.")
        return self._snapshot

    def refresh(self) -> Snapshot:
        """Look for a newer generation and return the newest; segments seen before stay open."""
        with self._mutex:
            if self._lock is None:
                self._show(self._newest(_TRIES))
            return self.snapshot()

    def acquire(self) -> None:
        """Become the writer: take the lock, check everything, clear away what crashes left."""
        with self._mutex:
            if self._lock is not None:
                return
            if not manifest.generations(self.path):
                manifest.newest(self.path)  # says what is wrong, and leaves no LOCK behind
            self._take_lock()
            try:
                with self._guard():
                    snapshot = self._newest(0)
                    recovery.sweep_temporary(self.path)
                    self._attach_catalogue(snapshot)
                    recovery.set_aside_newer(self.path, snapshot.generation)
                    recovery.remove_unreferenced(
                        self.path, snapshot.manifest, in_use=self._in_use()
                    )
                    self._collector.start(snapshot.manifest)
            except BaseException:
                self._release()
                raise
            self._show(snapshot)

    def begin(self) -> SegmentWriter:
        """Start a segment; nobody sees it before it is committed."""
        self._require_writable()
        return SegmentWriter(self.path / layout.SEGMENTS, self._guard)

    def commit(
        self,
        segments: Sequence[SegmentWriter] = (),
        *,
        models: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> int:
        """Publish all of it as one new generation and return its number.

        When this returns, the change has reached the disk and every later snapshot shows it. When
        it raises, nothing was changed. ``models`` are kept from then on, ``notes`` are merged into
        those of earlier commits.
        """
        change = Change(list(segments), dict(models or {}), {})
        try:
            with self._mutex, self._guard():
                self._require_writable()
                change.notes = layout.plain_json(dict(notes or {}), "the notes")
                change.drop_empty()
                if change.nothing:
                    return self.snapshot().generation
                return self._publish(change)
        except BaseException:
            for writer in change.writers:
                writer.abort()
            raise

    def close(self) -> None:
        """Give up the lock and the files. Snapshots that are still held stay readable."""
        with self._mutex:
            self._release()
            self._snapshot = None

    def _found(self, config: dict[str, Any]) -> None:
        self._take_lock()
        with self._guard():
            if manifest.generations(self.path):
                raise AlreadyExists(f"{self.path} already holds an index.")
            recovery.sweep_temporary(self.path)
            for name in (layout.SEGMENTS, layout.MODELS):
                recovery.make_folder(self.path / name)
            fs.fsync_dir(self.path.parent)
            first = Manifest(generation=1, oldest=1, config=config)
            sha256 = manifest.publish(self.path, first)
            snapshot = Snapshot(first, sha256, (), {})
            self._attach_catalogue(snapshot)
            self._collector.start(first)
            self._show(snapshot)

    def _publish(self, change: Change) -> int:
        before = self.snapshot()
        placed = None
        try:
            placed = place(self.path, before, change)
            sha256 = manifest.publish(self.path, placed.manifest)
        except BaseException as problem:
            self._after_failure(before.generation + 1, problem, change)
            raise
        snapshot = Snapshot(placed.manifest, sha256, placed.segments, placed.models)
        self._follow_in_catalogue(snapshot, before, placed.added)
        self._show(snapshot)
        for writer in change.writers:
            writer.done()
        self._collector.follow(snapshot.manifest, layout.GRACE_SECONDS)
        return snapshot.generation

    def _after_failure(self, generation: int, problem: BaseException, change: Change) -> None:
        """Undo what was placed, unless it may be part of the index by now."""
        if isinstance(problem, Locked) or (self.path / layout.manifest_name(generation)).exists():
            self._poisoned = f"the commit of generation {generation} was cut short: {problem}"
        else:
            undo(change)

    def _follow_in_catalogue(
        self, snapshot: Snapshot, before: Snapshot, added: Sequence[Segment]
    ) -> None:
        try:
            if self._catalogue_stale:
                self._catalogue.rebuild(snapshot)
            else:
                self._catalogue.update(snapshot, before, added)
            self._catalogue_stale = False
        except (sqlite3.Error, OSError) as problem:
            self._catalogue_stale = True
            log.warning("the catalogue of %s lags behind: %s", self.path, problem)

    def _attach_catalogue(self, snapshot: Snapshot) -> None:
        try:
            self._catalogue.attach(snapshot, thorough=self._verify == "full")
            self._catalogue_stale = False
        except (sqlite3.Error, OSError) as problem:
            self._catalogue_stale = True
            log.warning("the catalogue of %s cannot be written: %s", self.path, problem)

    def _newest(self, tries: int) -> Snapshot:
        """Open the newest generation. A writer may remove files under a reader, which then looks
        again; a file that stays missing is damage."""
        known = self._known()
        for attempt in range(tries + 1):
            seen = manifest.generations(self.path)
            try:
                found, sha256 = manifest.newest(self.path)
                current = self._snapshot
                if current is not None and current.sha256 == sha256:
                    return current
                return open_snapshot(self.path, found, sha256, self._verify, known)
            except (FileNotFoundError, Damaged) as problem:
                # Files go, and a list of names is out of date, only after a newer generation.
                if attempt < tries and manifest.generations(self.path)[-1:] != seen[-1:]:
                    continue
                if isinstance(problem, Damaged):
                    raise
                raise Damaged(
                    f"{problem.filename} is missing. Restore the index from a snapshot."
                ) from problem
        raise AssertionError("the loop returns or raises")

    def _known(self) -> dict[str, SegmentData]:
        shown = self._snapshot.segments if self._snapshot is not None else ()
        return {segment.name: segment.data for segment in shown}

    def _show(self, snapshot: Snapshot) -> None:
        self._alive.add(snapshot)
        self._snapshot = snapshot

    def _in_use(self) -> set[str]:
        names: set[str] = set()
        for snapshot in list(self._alive):
            names |= snapshot.manifest.names()
        return names

    def _take_lock(self) -> None:
        path = self.path / layout.LOCK
        try:
            self._lock = fs.WriterLock(path)
        except BlockingIOError as problem:
            raise Locked(
                f"process {problem.strerror or '?'} is writing to {self.path}. "
                "Wait until it has finished, or open the index for reading."
            ) from problem
        except OSError as problem:
            raise ReadOnly(f"{path} cannot be opened for writing: {problem}.") from problem
        self._owner = os.getpid()

    def _release(self) -> None:
        self._catalogue.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _require_writable(self) -> None:
        if self._poisoned:
            raise ReadOnly(f"{self.path} takes no more writes: {self._poisoned}. Reopen the index.")
        if not self.writable:
            raise ReadOnly(
                f"{self.path} is open for reading. Open it with write=True, or call acquire()."
            )

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn errors of the disk into ours; stop for good after one that leaves it unknown what
        the disk holds."""
        try:
            yield
        except DiskFull:
            raise
        except OSError as problem:
            if isinstance(problem, fs.FsyncFailed) or problem.errno == errno.EIO:
                self._poisoned = str(problem)
                raise ReadOnly(
                    f"{self.path} takes no more writes: {problem}. Check the disk, then reopen."
                ) from problem
            if problem.errno in _FULL:
                raise DiskFull(
                    f"there is no room to write to {self.path}: {problem.strerror}. "
                    "Nothing was changed."
                ) from problem
            raise


def _require_vacant(path: Path) -> list[Path]:
    """Refuse a folder that is not empty; make it if need be, and return what was made."""
    if path.exists() or path.is_symlink():
        if not path.is_dir():
            raise AlreadyExists(f"{path} is a file; give a folder that is new or empty.")
        if manifest.generations(path):
            raise AlreadyExists(
                f"{path} already holds an index. Open it, or choose another folder."
            )
        for entry in fs.list_entries(path):
            if not _is_leftover(entry):
                raise AlreadyExists(
                    f"{path} is not empty: it holds {entry.name!r}. Choose another folder."
                )
        return []
    made: list[Path] = []
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            fs.mkdir(folder)
            fs.fsync_dir(folder.parent)
            made.append(folder)
    return made


def _is_leftover(entry: os.DirEntry[str]) -> bool:
    """Say whether a name is what a creation that was cut short may have left."""
    if entry.name == layout.LOCK or entry.name.startswith(layout.TEMPORARY):
        return True
    return entry.name in {layout.SEGMENTS, layout.MODELS} and not fs.list_entries(Path(entry.path))


def _clear_away(path: Path, made: list[Path]) -> None:
    """Remove what a failed creation has made; never anything with a manifest in it."""
    with suppress(OSError):
        if manifest.generations(path):
            return
        for entry in fs.list_entries(path):
            recovery.remove(Path(entry.path))
        for folder in reversed(made):
            fs.rmdir(folder)
