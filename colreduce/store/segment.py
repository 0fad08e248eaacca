"""A segment on disk: checked before a byte of it is used, then mapped and never changed."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import Damaged, NewerFormat
from colreduce.store import fs, layout, records
from colreduce.store.manifest import SegmentEntry


def checked_bytes(path: Path, seal: fs.Seal, verify: str) -> Any:
    """Return what a file holds, read or mapped, after checking it against its seal.

    ``verify`` is ``full`` (the length and the sha256), ``sizes`` (the length), or ``written`` for
    a file this process has just written and hashed.
    """
    try:
        fd = fs.open_read(path)
    except FileNotFoundError:
        raise
    except OSError as problem:
        if fs.is_shortage(problem):
            raise
        raise Damaged(f"{path} cannot be read: {problem}.") from problem
    try:
        size = os.fstat(fd).st_size
        if size != seal.bytes:
            raise Damaged(f"{path} is damaged: it has {size} bytes instead of {seal.bytes}.")
        if verify == "full" and fs.digest(fd) != seal.sha256:
            raise Damaged(
                f"{path} is damaged: its checksum does not fit. Restore it from a snapshot."
            )
        if size <= layout.SMALL:
            return os.pread(fd, size, 0)
        return fs.map_bytes(fd, size)
    finally:
        os.close(fd)


@dataclass(frozen=True)
class SegmentData:
    """The files of one segment, opened. Shared by every snapshot that sees the segment."""

    entry: SegmentEntry
    directory: Path
    info: Mapping[str, Any]
    records: records.Records
    arrays: Mapping[str, NDArray[Any]]
    per: Mapping[str, str | None]
    buffers: Mapping[str, NDArray[np.uint8]]
    files: Mapping[str, Path]
    seals: Mapping[str, fs.Seal]
    sizes: Mapping[str, int]
    texts: NDArray[np.uint8] | None
    text_ends: NDArray[np.int64] | None
    maps: Sequence[mmap.mmap] = ()

    def let_go(self) -> None:
        """Give back the memory of what was read; the next use reads it from the disk again."""
        for mapped in self.maps:
            fs.let_go(mapped)

    @classmethod
    def open(cls, directory: Path, entry: SegmentEntry, verify: str) -> SegmentData:
        """Check every file of the segment and open it."""
        layout.require_folder(directory)
        path = directory / layout.SEGMENT_JSON
        if entry.bytes > layout.MAX_SEGMENT_JSON:
            raise Damaged(f"{path} claims {entry.bytes} bytes, more than a segment.json may have.")
        # What is parsed is always hashed; "sizes" spares the arrays, which are only mapped.
        parsed = "full" if verify == "sizes" else verify
        seal = fs.Seal(entry.bytes, entry.sha256)
        body = layout.parse_json(bytes(checked_bytes(path, seal, parsed)), path)
        version = body.get("format")
        if isinstance(version, int) and version > layout.FORMAT:
            raise NewerFormat(f"{path} has format {version}; this colreduce reads {layout.FORMAT}.")
        try:
            return cls._from_body(directory, entry, verify, body)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise Damaged(f"{path} contradicts the files beside it: {problem}.") from problem

    @classmethod
    def _from_body(
        cls, directory: Path, entry: SegmentEntry, verify: str, body: dict[str, Any]
    ) -> SegmentData:
        buffers: dict[str, Any] = {}
        seals = {name: fs.Seal(**seal) for name, seal in body["files"].items()}
        for name, seal in seals.items():
            if not layout.is_file_name(name):
                raise ValueError(f"{name!r} cannot name a file")
            level = "full" if verify == "sizes" and name in {layout.DOCS, layout.PACK} else verify
            buffers[name] = checked_bytes(directory / name, seal, level)
        maps = tuple(buffer for buffer in buffers.values() if isinstance(buffer, mmap.mmap))
        sizes = {layout.SEGMENT_JSON: entry.bytes, **{n: seal.bytes for n, seal in seals.items()}}
        if layout.PACK in buffers:
            _unpack(buffers, sizes, body["packed"])
        docs = records.decode(buffers[layout.DOCS], directory / layout.DOCS)
        if (docs.rows, docs.count - docs.rows) != (entry.rows, entry.deletes):
            raise ValueError("its number of records is not the one in the manifest")
        arrays = {name: _array(buffers, told) for name, told in body["arrays"].items()}
        ends = None
        if layout.TEXT_ENDS in buffers:
            ends = np.frombuffer(buffers[layout.TEXT_ENDS], "<u8").astype(np.int64)
            if len(ends) != docs.rows + 1 or int(ends[-1]) != len(buffers[layout.TEXTS]):
                raise ValueError("its texts do not fit its rows")
        taken = {told["file"] for told in body["arrays"].values()} | layout.RESERVED
        blobs = {n: np.frombuffer(b, np.uint8) for n, b in buffers.items() if n not in taken}
        return cls(
            entry=entry,
            directory=directory,
            info=MappingProxyType(dict(body["info"])),
            records=docs,
            arrays=MappingProxyType(arrays),
            per=MappingProxyType({n: told["per"] for n, told in body["arrays"].items()}),
            buffers=MappingProxyType(blobs),
            files=MappingProxyType(
                {n: directory / (n if n in seals else layout.PACK) for n in blobs}
            ),
            seals=MappingProxyType(seals),
            sizes=MappingProxyType(sizes),
            texts=None if ends is None else np.frombuffer(buffers[layout.TEXTS], np.uint8),
            text_ends=ends,
            maps=maps,
        )


def _unpack(
    buffers: dict[str, Any], sizes: dict[str, int], places: Mapping[str, tuple[int, int]]
) -> None:
    """Add the parts that share one file; the file itself then counts for nothing."""
    pack = memoryview(buffers.pop(layout.PACK))
    left = sizes.pop(layout.PACK)
    for name, (begin, size) in places.items():
        if name in buffers or not layout.is_file_name(name):
            raise ValueError(f"{name!r} cannot name a part of {layout.PACK}")
        if not 0 <= begin <= begin + size <= len(pack):
            raise ValueError(f"{name!r} lies outside {layout.PACK}")
        buffers[name] = pack[begin : begin + size]
        sizes[name] = size + -size % layout.ALIGNMENT
        left -= sizes[name]
    if left:
        raise ValueError(f"{layout.PACK} has {left} bytes that belong to no part")


def _array(buffers: Mapping[str, Any], told: Mapping[str, Any]) -> NDArray[Any]:
    shape = tuple(int(size) for size in told["shape"])
    array = np.frombuffer(buffers[told["file"]], np.dtype(told["dtype"])).reshape(shape)
    array.setflags(write=False)
    return array


class Segment:
    """One segment as a snapshot sees it: what it holds, and which of its rows are live."""

    def __init__(self, data: SegmentData, live: NDArray[np.bool_]) -> None:
        live.setflags(write=False)
        self._data = data
        self.live = live
        self.count = int(live.sum())

    def __repr__(self) -> str:
        return f"<Segment {self.name}: {self.count} of {self.rows} rows live>"

    @property
    def name(self) -> str:
        """The name of the segment's folder."""
        return self._data.entry.name

    @property
    def info(self) -> Mapping[str, Any]:
        """What the writer noted about the segment."""
        return self._data.info

    @property
    def rows(self) -> int:
        """The number of documents that were put, dead ones included."""
        return self._data.records.rows

    @property
    def ids(self) -> Sequence[str]:
        """The id of every row."""
        docs = self._data.records
        return records.Ids(docs.ids, docs.id_ends, docs.rows)

    @property
    def seqs(self) -> NDArray[np.int64]:
        """The place of every row in the order of all writes.  [rows]"""
        return self._data.records.seqs[: self.rows]

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that were appended, read-only."""
        return self._data.arrays

    @property
    def buffers(self) -> Mapping[str, NDArray[np.uint8]]:
        """The bytes that were written as blobs, read-only."""
        return self._data.buffers

    @property
    def files(self) -> Mapping[str, Path]:
        """Where the blobs lie; small ones share a file, so read ``buffers`` instead."""
        return self._data.files

    @property
    def bytes(self) -> Mapping[str, int]:
        """The bytes on disk of every part, whether it has a file of its own or shares one."""
        return self._data.sizes

    @property
    def data(self) -> SegmentData:
        """The opened files."""
        return self._data

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the metadata of one row."""
        return self._data.records.metadata(self._row(row))

    def text(self, row: int) -> str | None:
        """Return the text of one row, None if it was not stored."""
        texts, ends = self._data.texts, self._data.text_ends
        if texts is None or ends is None:
            return None
        packed = texts[ends[self._row(row)] : ends[row + 1]].tobytes()
        return zlib.decompress(packed).decode() if packed else None

    def _row(self, row: int) -> int:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of a segment that has {self.rows}")
        return row
