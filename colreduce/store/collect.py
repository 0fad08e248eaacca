"""Removes what no kept manifest names any more, without reading the folder at every commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from colreduce.errors import Damaged
from colreduce.store import fs, layout, manifest, recovery
from colreduce.store.manifest import Manifest

log = logging.getLogger(__name__)


class Collector:
    """Remembers what the kept manifests name, and what is waiting to be removed."""

    def __init__(self, root: Path, in_use: Callable[[], set[str]]) -> None:
        self._root = root
        self._in_use = in_use  # the folders that living snapshots of this process show
        self._kept: dict[int, set[str]] = {}
        self._doomed: dict[str, float] = {}  # and when it was made

    @property
    def waiting(self) -> bool:
        """Whether anything is to go that no snapshot of this process shows."""
        return bool(self._doomed.keys() - self._in_use())

    def start(self, newest: Manifest) -> None:
        """Remember what the manifests on the disk name; one that is damaged protects nothing."""
        self._kept = {newest.generation: newest.names()}
        self._doomed = {}
        for generation in range(newest.oldest, newest.generation):
            with suppress(Damaged, FileNotFoundError):
                self._kept[generation] = manifest.load(self._root, generation)[0].names()

    def follow(self, newest: Manifest, min_age: float) -> list[str]:
        """Drop the manifests that are no longer kept and what only they named; return the names.

        What a snapshot of this process shows waits for it; what is younger than ``min_age``
        seconds waits, too, because another process may be about to open it. A failure to remove
        something only means that it is tried again.
        """
        self._kept[newest.generation] = newest.names()
        for name in self._doomed.keys() & newest.names():  # an equal model has come back
            del self._doomed[name]
        try:
            for generation in [g for g in self._kept if g < newest.oldest]:
                fs.unlink(self._root / layout.manifest_name(generation))
                for name in self._kept.pop(generation).difference(*self._kept.values()):
                    self._doomed[name] = self._made(name)
            before = time.time() - min_age
            old = {name for name, made in self._doomed.items() if made <= before or min_age <= 0}
            gone = sorted(old - self._in_use()) if old else []
            for name in gone:
                recovery.remove(self._path(name))
                del self._doomed[name]
            return gone
        except OSError as problem:
            log.warning("old files of %s could not be removed: %s", self._root, problem)
            return []

    def _path(self, name: str) -> Path:
        return self._root / (layout.MODELS if layout.is_model(name) else layout.SEGMENTS) / name

    def _made(self, name: str) -> float:
        try:
            return self._path(name).lstat().st_mtime
        except FileNotFoundError:
            return 0.0
