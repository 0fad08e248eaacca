"""Saves one generation into one file and makes an index from it again.

The file is a plain tar: the manifest first, then what it names. Nothing in it is trusted: only
names that the manifest lists are taken, and only with the bytes it seals.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from colreduce.errors import AlreadyExists, BadData, Damaged
from colreduce.store import creation, fs, layout, manifest, recovery
from colreduce.store.manifest import Manifest
from colreduce.store.snapshot import Snapshot, open_snapshot

_NUMBERS = itertools.count()
_BLOCK = 1 << 20


def save(root: Path, snapshot: Snapshot, target: Path) -> None:
    """Write the generation into a new file, which appears under its name when it is complete."""
    if target.exists():
        raise AlreadyExists(f"{target} exists; choose another name for the snapshot.")
    alone = dataclasses.replace(snapshot.manifest, oldest=snapshot.generation)
    temporary = target.with_name(f"{layout.TEMPORARY}-{os.getpid()}-{next(_NUMBERS)}-{target.name}")
    sink = fs.Sink(temporary)
    try:
        with tarfile.open(fileobj=sink.stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            body = alone.sealed()[0]
            name = layout.manifest_name(alone.generation)
            tar.addfile(_member(name, len(body)), io.BytesIO(body))
            for name, seal in _sealed_files(snapshot):
                with open(fs.open_read(root / name), "rb") as source:
                    checked = _Checked(source, seal, root / name)
                    tar.addfile(_member(name, seal.bytes), checked)
                    checked.finish()
        sink.finish()
        fs.link_excl(temporary, target)
    finally:
        sink.abandon()
        fs.unlink(temporary)
    fs.fsync_dir(target.parent)


def restore(source: Path, path: Path) -> None:
    """Unpack and check everything beside the target, then give it its name in one step."""
    creation.require_vacant(path)
    made = creation.make_folders(path.parent)
    temporary = path.parent / f"{layout.TEMPORARY}-{os.getpid()}-{next(_NUMBERS)}-{path.name}"
    try:
        fs.mkdir(temporary)
        try:
            with tarfile.open(source, mode="r:") as tar:
                found, sha256 = _unpack(tar, source, temporary)
        except tarfile.TarError as problem:
            raise BadData(f"{source} is no snapshot of an index: {problem}.") from problem
        open_snapshot(temporary, found, sha256, "full", {})
        if path.is_dir():
            recovery.remove(path)  # empty, or what a creation that was cut short has left
        fs.rename(temporary, path)
    except BaseException:
        recovery.remove(temporary)
        for folder in reversed(made):
            fs.rmdir(folder)
        raise
    fs.fsync_dir(path.parent)


def _unpack(tar: tarfile.TarFile, source: Path, target: Path) -> tuple[Manifest, str]:
    """Write the files that the manifest names; it is linked last."""
    first = tar.next()
    if first is None or layout.manifest_generation(first.name) is None or not first.isfile():
        raise BadData(f"{source} is no snapshot of an index: it does not begin with a manifest.")
    if first.size > layout.MAX_MANIFEST + 100:
        raise BadData(f"{source} begins with a manifest of {first.size} bytes, which is too long.")
    body = _stream(tar, first, source).read()
    found, sha256 = manifest.unseal(body, Path(first.name))
    for name in (layout.SEGMENTS, layout.MODELS):
        fs.mkdir(target / name)
    folders: set[Path] = set()
    # A segment's files are sealed by its segment.json, which the manifest seals and which comes
    # before them. So at every point it is known which name may come next, and with which bytes.
    expected = {f"{layout.SEGMENTS}/{e.name}/{layout.SEGMENT_JSON}": e for e in found.segments}
    seals = {name: fs.Seal(entry.bytes, entry.sha256) for name, entry in expected.items()}
    for model in found.models.values():
        name = f"{layout.MODELS}/{model.name}/{layout.MODEL_FILE}"
        seals[name] = fs.Seal(model.bytes, model.sha256)
    for member in iter(tar.next, None):
        seal = seals.pop(member.name, None)
        if seal is None or not member.isfile() or member.size != seal.bytes:
            raise BadData(f"{source} holds {member.name!r}, which does not belong there.")
        file = target / PurePosixPath(member.name)
        if file.parent not in folders:
            fs.mkdir(file.parent)
            folders.add(file.parent)
        _write_checked(file, _stream(tar, member, source), seal, source)
        if file.name == layout.SEGMENT_JSON:
            told = layout.parse_json(fs.read(file, layout.MAX_SEGMENT_JSON), file)
            seals |= _listed(told, member.name.removesuffix(layout.SEGMENT_JSON), source)
    if seals:
        raise Damaged(f"{source} was cut short: {next(iter(seals))} is missing.")
    for folder in [*folders, target / layout.SEGMENTS, target / layout.MODELS]:
        fs.fsync_dir(folder)
    fs.write_once(target / first.name, body)
    fs.fsync_dir(target)
    return found, sha256


def _listed(told: dict[str, object], folder: str, source: Path) -> dict[str, fs.Seal]:
    files = told.get("files")
    if not isinstance(files, dict) or not all(map(layout.is_file_name, files)):
        raise BadData(f"{source} holds a segment.json that lists no files.")
    try:
        return {f"{folder}{name}": fs.Seal(**seal) for name, seal in files.items()}
    except TypeError as problem:
        raise BadData(f"{source} holds a segment.json that cannot be read.") from problem


def _write_checked(file: Path, stream: IO[bytes], seal: fs.Seal, source: Path) -> None:
    sink = fs.Sink(file)
    try:
        while block := stream.read(_BLOCK):
            sink.write(block)
        if sink.finish() != seal:
            raise Damaged(f"{source} is damaged: {file.name} is not what was saved.")
    finally:
        sink.abandon()


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo, source: Path) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise BadData(f"{source} holds {member.name!r}, which is no file.")
    return stream


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Describe a file without owner or time, so that equal indexes give equal snapshots."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    return member


def _sealed_files(snapshot: Snapshot) -> Iterator[tuple[str, fs.Seal]]:
    """Yield every file of a generation with its seal, each segment.json before its files."""
    for segment in snapshot.segments:
        entry, folder = segment.data.entry, f"{layout.SEGMENTS}/{segment.name}"
        yield f"{folder}/{layout.SEGMENT_JSON}", fs.Seal(entry.bytes, entry.sha256)
        for name, seal in segment.data.seals.items():
            yield f"{folder}/{name}", seal
    for model in {entry.name: entry for entry in snapshot.manifest.models.values()}.values():
        name = f"{layout.MODELS}/{model.name}/{layout.MODEL_FILE}"
        yield name, fs.Seal(model.bytes, model.sha256)


class _Checked(io.RawIOBase):
    """Reads a file through, and says at the end whether it held what it should."""

    def __init__(self, source: IO[bytes], seal: fs.Seal, path: Path) -> None:
        super().__init__()
        self._source, self._seal, self._path = source, seal, path
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block = self._source.read(size)
        self._hash.update(block)
        return block

    def finish(self) -> None:
        """Raise Damaged if the bytes were not those that the seal promises."""
        if self._source.read(1) or self._hash.hexdigest() != self._seal.sha256:
            raise Damaged(f"{self._path} is damaged: its checksum does not fit.")
