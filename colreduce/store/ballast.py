"""A file that holds nothing but room, given up so that a full disk can be emptied.

Deleting writes a little and compacting writes a lot before either frees anything. The ballast is
as long as the index, between 1 and 64 MiB: enough for that, and no burden on a small index.
"""

from __future__ import annotations

import logging
from pathlib import Path

from colreduce.store import fs, layout
from colreduce.store.snapshot import Snapshot

log = logging.getLogger(__name__)
_LEAST = 1 << 20


def keep(root: Path, snapshot: Snapshot) -> None:
    """Reserve the room if it is not there and the disk can well spare it; never fail."""
    path = root / layout.BALLAST
    size = sum(sum(segment.bytes.values()) for segment in snapshot.segments)
    size = min(max(size, _LEAST), layout.BALLAST_BYTES)
    try:
        held = path.lstat().st_size if path.exists() else 0
        if held * 2 > size or fs.free_bytes(root) < 2 * size:
            return
        fs.unlink(path)
        fs.reserve(path, size)
    except OSError as problem:
        log.warning("%s could not be reserved: %s", path, problem)


def release(root: Path) -> bool:
    """Give the room back; return whether there was any."""
    path = root / layout.BALLAST
    if not path.exists():
        return False
    fs.unlink(path)
    log.warning("the disk is full: %s was given up to let a deletion or compaction through", path)
    return True
