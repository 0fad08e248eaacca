"""Where pieces of an index are made by processes that do not hold its lock.

Such a process writes and seals a piece in a folder of its own. Where that folder lies on the disk
of the index, the holder of the lock takes it over by its name. Where it does not, the bytes travel,
and are held against their seals again when they are written.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import Damaged, DiskFull
from colreduce.store import fs, layout
from colreduce.store.writer import SegmentWriter

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# The files of a sealed piece, by their names.
Files = Mapping[str, NDArray[np.uint8]]


class Workshop:
    """A folder to make segments in; nobody finds them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> SegmentWriter:
        """Start a segment."""
        return SegmentWriter(self.folder, self._guard)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Say that the disk is full in our words."""
        try:
            yield
        except OSError as problem:
            if isinstance(problem, DiskFull) or problem.errno not in _FULL:
                raise
            raise DiskFull(
                f"there is no room to write to {self.folder}: {problem.strerror}."
            ) from problem


def taken_along(folder: Path) -> Files:
    """Return what a sealed folder holds, and remove it."""
    entries = [Path(entry.path) for entry in fs.list_entries(folder)]
    sizes = {path: path.stat().st_size for path in entries}
    files = {path.name: np.frombuffer(fs.read(path, sizes[path]), np.uint8) for path in entries}
    fs.rmtree(folder)
    return files


def set_down(files: Files, folder: Path, sha256: str) -> None:
    """Write what was taken along into a new folder; raise `Damaged` if it is not what was sealed.

    sha256  the digest of its segment.json, which holds those of all other files
    """
    told = bytes(files.get(layout.SEGMENT_JSON, b""))
    if hashlib.sha256(told).hexdigest() != sha256:
        raise Damaged(f"a piece arrived damaged: its {layout.SEGMENT_JSON} is not what was sealed.")
    wanted: dict[str, Any] = layout.parse_json(told, folder / layout.SEGMENT_JSON)["files"]
    if set(wanted) | {layout.SEGMENT_JSON} != set(files):
        raise Damaged("a piece arrived damaged: it has other files than were sealed.")
    fs.mkdir(folder)
    for name, seal in wanted.items():
        checked = layout.checked_name(name, "a file")
        data: Any = files[name].data
        if fs.write_once(folder / checked, data) != fs.Seal(**seal):
            raise Damaged(f"a piece arrived damaged: its file {name} is not what was sealed.")
    fs.write_once(folder / layout.SEGMENT_JSON, told)
    fs.fsync_dir(folder)
