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
        self._doomed: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether anything is to go that no snapshot of this process shows."""
        return bool(self._doomed - self._in_use())

    def start(self, newest: Manifest) -> None:
        """Remember what the manifests on the disk name; one that is damaged protects nothing."""
        self._kept = {newest.generation: newest.names()}
        self._doomed = set()
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
        try:
            for generation in [g for g in self._kept if g < newest.oldest]:
                fs.unlink(self._root / layout.manifest_name(generation))
                self._doomed |= self._kept.pop(generation)
            self._doomed.difference_update(*self._kept.values())
            return [
                name for name in sorted(self._doomed - self._in_use()) if self._go(name, min_age)
            ]
        except OSError as problem:
            log.warning("old files of %s could not be removed: %s", self._root, problem)
            return []

    def _go(self, name: str, min_age: float) -> bool:
        folder = layout.MODELS if layout.is_model(name) else layout.SEGMENTS
        path = self._root / folder / name
        with suppress(FileNotFoundError):
            if min_age > 0 and time.time() - path.lstat().st_mtime < min_age:
                return False
            recovery.remove(path)
        self._doomed.discard(name)
        return True
