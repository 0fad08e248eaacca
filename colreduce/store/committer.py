"""The writing half of a store: the lock, the order of a commit, and what an error does to it."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from colreduce.errors import DiskFull, Locked, ReadOnly
from colreduce.store import ballast, fs, layout, manifest, recovery
from colreduce.store.catalogue import Catalogue
from colreduce.store.collect import Collector
from colreduce.store.publish import Change, place, undo
from colreduce.store.segment import Segment
from colreduce.store.snapshot import Model, Snapshot

log = logging.getLogger(__name__)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Committer:
    """Holds the writer's lock of one index, from its making until ``release``."""

    def __init__(self, root: Path, in_use: Callable[[], set[str]]) -> None:
        self.root = root
        self.poisoned = ""
        self._lock = taken(root)
        self._owner = os.getpid()
        self._catalogue = Catalogue(root)
        self._catalogue_stale = False
        self._collector = Collector(root, in_use)
        self._in_use = in_use

    @property
    def may_write(self) -> bool:
        """Whether nothing has gone wrong, and this is still the process that took the lock."""
        return not self.poisoned and self._owner == os.getpid()

    def require(self) -> None:
        """Refuse to write after a failure, or in a forked child."""
        if self.poisoned:
            raise ReadOnly(f"{self.root} takes no more writes: {self.poisoned}. Reopen the index.")
        if self._owner != os.getpid():
            raise ReadOnly(f"{self.root} was opened by the parent of this process. Open it again.")

    def release(self) -> None:
        """Close the catalogue and give the lock back."""
        self._catalogue.close()
        self._lock.release()

    def recover(self, snapshot: Snapshot) -> None:
        """Clear away what crashes have left; the catalogue, as a witness, has its say first."""
        with self.guard():
            recovery.sweep_temporary(self.root)
            self._attach_catalogue(snapshot)
            recovery.set_aside_newer(self.root, snapshot.generation)
            recovery.remove_unreferenced(self.root, snapshot.manifest, in_use=self._in_use())
            self._collector.start(snapshot.manifest)
        ballast.keep(self.root, snapshot)

    def found(self, config: dict[str, object]) -> Snapshot:
        """Make the folders of a new index and publish its first generation."""
        with self.guard():
            recovery.sweep_temporary(self.root)
            for name in (layout.SEGMENTS, layout.MODELS):
                recovery.make_folder(self.root / name)
            first = manifest.Manifest(generation=1, oldest=1, config=config)
            snapshot = Snapshot(first, manifest.publish(self.root, first), (), {})
            self._attach_catalogue(snapshot)
            self._collector.start(first)
        ballast.keep(self.root, snapshot)
        return snapshot

    def prepare(self, config: dict[str, object], models: Mapping[str, Model]) -> Snapshot:
        """Make the folders of an index that nobody sees before its first commit."""
        with self.guard():
            recovery.sweep_temporary(self.root)
            for name in (layout.SEGMENTS, layout.MODELS):
                recovery.make_folder(self.root / name)
                # No manifest names them: they were placed by a first commit that was cut short.
                for entry in fs.list_entries(self.root / name):
                    recovery.remove(Path(entry.path))
        self._catalogue_stale = True  # it is made with the first commit
        return Snapshot(manifest.Manifest(generation=0, oldest=1, config=config), "", (), models)

    def commit(self, before: Snapshot, change: Change, show: Callable[[Snapshot], None]) -> None:
        """Place, publish, follow in the catalogue, show. Deletions may take the ballast's room."""
        spare = bool(change.writers) and all(writer.only_deletes for writer in change.writers)
        try:
            self._commit(before, change, show)
        except DiskFull:
            if not (spare and ballast.release(self.root)):
                raise
            for writer in change.writers:
                writer.reopen()
            change.placed.clear()
            self._commit(before, change, show)

    def _commit(self, before: Snapshot, change: Change, show: Callable[[Snapshot], None]) -> None:
        with self.guard():
            self.require()
            try:
                placed = place(self.root, before, change)
                sha256 = manifest.publish(self.root, placed.manifest)
            except BaseException as problem:
                self._after_failure(before.generation + 1, problem, change)
                raise
            snapshot = Snapshot(placed.manifest, sha256, placed.segments, placed.models)
            try:
                self._follow_in_catalogue(snapshot, before, placed.added)
            finally:
                show(snapshot)
                for writer in change.writers:
                    writer.done()
            if change.purge:
                self._purge(snapshot)
            else:
                self._collector.follow(snapshot.manifest, layout.GRACE_SECONDS)
        if change.removed or not before.generation:
            ballast.keep(self.root, snapshot)

    @property
    def waste(self) -> bool:
        """Whether the collector waits for files to grow old enough to go."""
        return self._collector.waiting

    def collect(self, snapshot: Snapshot) -> list[str]:
        """Remove what has grown old enough; return the names."""
        return self._collector.follow(snapshot.manifest, layout.GRACE_SECONDS)

    def _after_failure(self, generation: int, problem: BaseException, change: Change) -> None:
        """Undo what was placed, unless it may be part of the index by now."""
        if isinstance(problem, Locked) or (self.root / layout.manifest_name(generation)).exists():
            self.poisoned = f"the commit of generation {generation} was cut short: {problem}"
        else:
            undo(change)

    def _purge(self, snapshot: Snapshot) -> None:
        """Leave no byte of an older generation on the disk, whoever may still show it."""
        recovery.remove_unreferenced(self.root, snapshot.manifest)
        recovery.remove(self.root / layout.QUARANTINE)
        self._collector.start(snapshot.manifest)
        self._catalogue.purge()

    def _attach_catalogue(self, snapshot: Snapshot) -> None:
        try:
            self._catalogue.attach(snapshot)
            self._catalogue_stale = False
        except (sqlite3.Error, OSError) as problem:
            self._catalogue_stale = True
            log.warning("the catalogue of %s cannot be written: %s", self.root, problem)

    def _follow_in_catalogue(
        self, snapshot: Snapshot, before: Snapshot, added: Sequence[Segment]
    ) -> None:
        stale, self._catalogue_stale = self._catalogue_stale, True
        try:
            if stale:
                self._catalogue.rebuild(snapshot)
            else:
                self._catalogue.update(snapshot, before, added)
            self._catalogue_stale = False
        except (sqlite3.Error, OSError) as problem:
            log.warning("the catalogue of %s lags behind: %s", self.root, problem)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn errors of the disk into ours; stop for good when it is not known what it holds."""
        try:
            yield
        except DiskFull:
            raise
        except OSError as problem:
            if isinstance(problem, fs.FsyncFailed) or problem.errno == errno.EIO:
                self.poisoned = str(problem)
                raise ReadOnly(
                    f"{self.root} takes no more writes: {problem}. Check the disk, then reopen."
                ) from problem
            if problem.errno in _FULL:
                raise DiskFull(
                    f"there is no room to write to {self.root}: {problem.strerror}. "
                    "Nothing was changed."
                ) from problem
            raise


def taken(root: Path) -> fs.WriterLock:
    """Take the lock of the one writer, or say who holds it."""
    path = root / layout.LOCK
    try:
        return fs.WriterLock(path)
    except BlockingIOError as problem:
        raise Locked(
            f"process {problem.strerror or '?'} is writing to {root}. "
            "Wait until it has finished, or open the index for reading."
        ) from problem
    except OSError as problem:
        if problem.errno in _FULL:
            raise DiskFull(f"there is no room to make {path}. Nothing was changed.") from problem
        raise ReadOnly(f"{path} cannot be opened for writing: {problem}.") from problem
