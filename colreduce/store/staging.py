"""A build that is not finished: what it is, and its pieces, where the index will be.

    building/job.json                      what is being built, sealed
    building/NAME.safetensors              arrays that belong to it; the record holds their seals
    building/piece-0000000007-<sha256>/    one finished piece, laid out as a segment is

The record is written once, before the first piece. A piece appears under its name in one step, when
all of its bytes are on the disk; the digest in its name is that of its segment.json, which holds
those of all its other files. So what is there is whole, and what is missing is still to be done.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import Damaged, NewerFormat
from colreduce.store import fs, layout, recovery, tensors
from colreduce.store.manifest import SegmentEntry
from colreduce.store.segment import Segment, SegmentData, checked_bytes
from colreduce.store.workshop import Files, set_down
from colreduce.store.writer import SegmentWriter

log = logging.getLogger(__name__)
_SEAL = b"\n#sha256="


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A build as it lies on the disk.

    record  what is being built
    done    the numbers of its finished pieces
    bytes   what these take
    holder  the number of the process that works on it, None when it has stopped
    """

    record: Mapping[str, Any]
    done: frozenset[int]
    bytes: int
    holder: str | None


def unfinished(root: Path) -> Unfinished | None:
    """Return the build that was begun in a folder; None where there is none, or not yet one."""
    record = _read(root / layout.BUILDING / layout.JOB_JSON)
    if record is None:
        return None
    pieces = _pieces(root / layout.BUILDING)
    size = sum(_bytes(root / layout.BUILDING / name) for name in pieces.values())
    return Unfinished(record, frozenset(pieces), size, fs.lock_holder(root / layout.LOCK))


class Staging:
    """The folder of an unfinished build, for its one writer."""

    def __init__(self, root: Path, guard: Callable[[], Any]) -> None:
        """``guard`` turns errors of the disk into ours."""
        self.path = root / layout.BUILDING
        self._root = root
        self._guard = guard
        self._names = _pieces(self.path)

    def found(
        self, record: Mapping[str, Any], arrays: Mapping[str, Mapping[str, NDArray[Any]]]
    ) -> None:
        """Write down what is going to be built, with the arrays that belong to it."""
        with self._guard():
            recovery.remove(self.path)
            self._names = {}
            recovery.make_folder(self.path)
            seals = {
                name: asdict(fs.write_once(self._file(name), tensors.dump(some)))
                for name, some in arrays.items()
            }
            body = layout.to_json({"format": layout.FORMAT, "files": seals, **record})
            seal = _SEAL + hashlib.sha256(body).hexdigest().encode()
            temporary = self.path / f"{layout.TEMPORARY}-{layout.JOB_JSON}"
            fs.write_once(temporary, body + seal)
            fs.rename(temporary, self.path / layout.JOB_JSON)
            fs.fsync_dir(self.path)

    def arrays(self, record: Mapping[str, Any], name: str) -> Mapping[str, NDArray[Any]]:
        """Return arrays that belong to the build."""
        path = self._file(name)
        return tensors.load(checked_bytes(path, fs.Seal(**record["files"][name]), "full"), path)

    def numbers(self) -> list[int]:
        """Return the numbers of the finished pieces."""
        return sorted(self._names)

    def keep(self, number: int, writer: SegmentWriter, first: int) -> None:
        """Keep a finished piece; ``first`` is the number of its first document."""
        sealed = writer.seal(first)
        self.take(number, sealed.directory, sealed.seal.sha256)
        writer.done()

    def take(self, number: int, folder: Path, sha256: str) -> bool:
        """Keep a piece that was sealed in a folder on this disk; False if it is there already.

        sha256  the digest of its segment.json
        """
        name = layout.piece_name(number, sha256)
        with self._guard():
            if number in self._names:
                if self._names[number] != name:
                    log.warning(
                        "piece %d was made twice and not the same: do the machines differ?", number
                    )
                recovery.remove(folder)
                return False
            fs.rename(folder, self.path / name)
            fs.fsync_dir(self.path)
        self._names[number] = name
        return True

    def receive(self, number: int, files: Files, sha256: str) -> bool:
        """Keep a piece whose bytes came from elsewhere; False if it is there already."""
        if number in self._names:
            return False
        folder = self._root / layout.SEGMENTS / f"{layout.TEMPORARY}-received-{number}"
        with self._guard():
            recovery.remove(folder)
            set_down(files, folder, sha256)
        return self.take(number, folder, sha256)

    def sweep(self) -> None:
        """Remove what processes have left half made; one that still writes keeps it a little."""
        try:
            recovery.sweep_temporary(self._root)
        except OSError as problem:
            log.warning("something half made is left for the next open to remove: %s", problem)

    def bytes(self, number: int) -> int:
        """Return what a finished piece takes on the disk."""
        return _bytes(self.path / self._names[number])

    def open(self, number: int, verify: str = "written") -> Segment:
        """Open a finished piece; ``verify`` is what `SegmentData.open` takes."""
        folder = self.path / self._names[number]
        path = folder / layout.SEGMENT_JSON
        data = fs.read(path, layout.MAX_SEGMENT_JSON)
        sha256 = folder.name.rpartition("-")[2]
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(f"{path} is damaged: its checksum does not fit.")
        body = layout.parse_json(data, path)
        entry = SegmentEntry(folder.name, len(data), sha256, body["rows"], body["deletes"])
        return Segment(
            SegmentData.open(folder, entry, verify), np.ones(int(body["rows"]), np.bool_)
        )

    def drop_damaged(self) -> list[int]:
        """Read all finished pieces again and remove those that are not what was written."""
        gone = []
        for number, name in sorted(self._names.items()):
            try:
                self.open(number, "full").data.let_go()
            except (Damaged, OSError) as problem:
                log.warning("a piece of the build is made again: %s", problem)
                recovery.remove(self.path / name)
                del self._names[number]
                gone.append(number)
        return gone

    def clear(self) -> None:
        """Remove all of it, in one step as others see it."""
        with self._guard():
            if not self.path.exists():
                return
            going = self._root / f"{layout.TEMPORARY}-{layout.BUILDING}-{os.getpid()}"
            recovery.remove(going)
            fs.rename(self.path, going)
            fs.fsync_dir(self._root)
            recovery.remove(going)

    def _file(self, name: str) -> Path:
        return self.path / f"{layout.checked_name(name, 'arrays')}.safetensors"


def _pieces(folder: Path) -> dict[int, str]:
    """Return the names of the finished pieces by their numbers."""
    found = ((layout.piece_number(entry.name), entry.name) for entry in fs.list_entries(folder))
    return {place[0]: name for place, name in found if place is not None}


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in fs.list_entries(folder))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = fs.read(path, layout.MAX_JOB)
    except FileNotFoundError:
        return None
    body, _, told = data.rpartition(_SEAL)
    if hashlib.sha256(body).hexdigest().encode() != told:
        raise Damaged(f"{path} is damaged: its checksum does not fit. Remove {path.parent}.")
    record = layout.parse_json(body, path)
    if record.pop("format", 0) > layout.FORMAT:
        raise NewerFormat(f"{path} was written by a newer colreduce. Upgrade colreduce to go on.")
    return record
