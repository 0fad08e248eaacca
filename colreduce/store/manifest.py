"""The manifest: one sealed file per generation that names everything the index consists of.

The manifest with the highest number is the truth. Publishing one is the only commit point.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from colreduce.errors import BadInput, Damaged, Locked, NewerFormat, NotAnIndex
from colreduce.store import fs, layout, sharding

_NUMBERS = itertools.count()
_SEAL = b"\n#sha256="


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment as the manifest names it; the seal is that of its ``segment.json``."""

    name: str
    bytes: int
    sha256: str
    rows: int
    deletes: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One shared artefact as the manifest names it; the seal is that of its file."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a generation consists of."""

    generation: int
    oldest: int  # manifests from here to this one must stand side by side
    config: dict[str, Any]
    next_seq: int = 0
    documents: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    models: dict[str, ModelEntry] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Return the names of all folders it consists of."""
        return {e.name for e in self.segments} | {e.name for e in self.models.values()}

    def sealed(self) -> tuple[bytes, str]:
        """Return the bytes of the file, and the sha256 that stands at their end."""
        body: dict[str, Any] = {"format": layout.FORMAT}
        body |= {entry.name: getattr(self, entry.name) for entry in fields(self)}
        body["segments"] = [_as_dict(entry) for entry in self.segments]
        body["models"] = {key: _as_dict(entry) for key, entry in self.models.items()}
        encoded = layout.to_json(body)
        if len(encoded) > layout.MAX_MANIFEST:
            raise BadInput(f"the manifest would take {len(encoded)} bytes: config or notes too big")
        sha256 = hashlib.sha256(encoded).hexdigest()
        return encoded + _SEAL + sha256.encode(), sha256


def _as_dict(entry: SegmentEntry | ModelEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__slots__}


def unseal(data: bytes, path: Path) -> tuple[Manifest, str]:
    """Return the manifest a file holds and its sha256, or say why it cannot be trusted."""
    body, seal, tail = data.rpartition(_SEAL)
    sha256 = hashlib.sha256(body).hexdigest()
    if not seal or tail != sha256.encode():
        raise Damaged(f"{path} is damaged: its checksum does not fit. Restore it from a snapshot.")
    values = layout.parse_json(body, path)
    version = values.pop("format", None)
    unknown = set(values) - {entry.name for entry in fields(Manifest)}
    if isinstance(version, int) and (version > layout.FORMAT or unknown):
        raise NewerFormat(
            f"{path} was written by a newer colreduce (format {version}, this one reads up to "
            f"{layout.FORMAT}). Nothing was changed; upgrade colreduce to open it."
        )
    try:
        values["segments"] = tuple(SegmentEntry(**entry) for entry in values["segments"])
        values["models"] = {k: ModelEntry(**entry) for k, entry in values["models"].items()}
        manifest = Manifest(**values)
        if path.name != layout.manifest_name(manifest.generation):
            raise ValueError(f"it is that of generation {manifest.generation}")
        for entry in manifest.segments:
            if layout.segment_generation(entry.name) is None:
                raise ValueError(f"{entry.name!r} cannot name a segment")
        for model in manifest.models.values():
            if not layout.is_model(model.name):
                raise ValueError(f"{model.name!r} cannot name a model")
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Damaged(f"{path} is not a manifest: {problem}.") from problem
    return manifest, sha256


def generations(root: Path) -> list[int]:
    """Return the generations that have a manifest here, oldest first."""
    found = (layout.manifest_generation(entry.name) for entry in fs.list_entries(root))
    return [generation for generation in found if generation is not None]


def load(root: Path, generation: int) -> tuple[Manifest, str]:
    """Read one generation's manifest."""
    path = root / layout.manifest_name(generation)
    try:
        data = fs.read(path, layout.MAX_MANIFEST + 100)
    except FileNotFoundError:
        raise
    except OSError as problem:
        if fs.is_shortage(problem):
            raise
        raise Damaged(f"{path} cannot be read: {problem}.") from problem
    return unseal(data, path)


def newest(root: Path) -> tuple[Manifest, str]:
    """Read the newest manifest, and refuse it if a newer one must have been lost.

    A manifest is removed only after a newer one has reached the disk. So if one that must stand
    beside the newest is gone, the newest of all is gone too.
    """
    numbers = generations(root)
    if not numbers:
        _refuse_without_manifest(root)
    manifest, sha256 = load(root, numbers[-1])
    missing = set(range(manifest.oldest, manifest.generation)) - set(numbers)
    if missing:
        raise Damaged(
            f"{root / layout.manifest_name(min(missing))} is missing, so a newer manifest than "
            f"generation {manifest.generation} was lost, or the folder was copied in part. "
            "Restore the index from a snapshot."
        )
    # Names are compared, not parsed: thousands of segments may be waiting to be removed.
    first_lost = layout.segment_name(manifest.generation + 2, "")
    for name in fs.list_names(root / layout.SEGMENTS):
        generation = layout.segment_generation(name) if name >= first_lost else None
        if generation is not None:
            raise Damaged(
                f"{root / layout.SEGMENTS / name} is of generation {generation}, but the newest "
                f"manifest is of {manifest.generation}: a manifest was lost. Restore the index "
                "from a snapshot."
            )
    return manifest, sha256


def _refuse_without_manifest(root: Path) -> None:
    for entry in fs.list_entries(root / layout.SEGMENTS):
        if (layout.segment_generation(entry.name) or 0) > 1:
            raise Damaged(f"{root} holds segments but no manifest. Restore it from a snapshot.")
    if (root / layout.BUILDING).is_dir():
        raise NotAnIndex(
            f"{root} holds an index that is still being built: 'colreduce inspect' says how far it "
            "is, the 'colreduce index' that began it goes on with it."
        )
    if sharding.is_sharded(root):
        raise NotAnIndex(
            f"{root} holds a collection in shards, each of which is an index: name one of them, or "
            "serve all by 'colreduce serve'."
        )
    raise NotAnIndex(f"{root} holds no colreduce index.")


def publish(root: Path, manifest: Manifest) -> str:
    """Make a generation the truth; return its sha256. A taken number means another writer."""
    data, sha256 = manifest.sealed()
    target = root / layout.manifest_name(manifest.generation)
    # A number of its own, for an attempt that failed may have left its file behind.
    temporary = root / f"{layout.TEMPORARY}-manifest-{os.getpid()}-{next(_NUMBERS)}"
    fs.write_once(temporary, data)
    try:
        fs.link_excl(temporary, target)
    except FileExistsError as problem:
        raise Locked(
            f"another writer has published generation {manifest.generation} of {root}. "
            "This one has stopped; reopen the index."
        ) from problem
    with suppress(OSError):  # it is published; a leftover .tmp file is swept up at the next open
        fs.unlink(temporary)
    fs.fsync_dir(root)
    return sha256
