"""Snapshot: one generation of an index, frozen. What it shows never changes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import Damaged
from colreduce.store import fs, layout, records, tensors
from colreduce.store.manifest import Manifest, ModelEntry
from colreduce.store.segment import Segment, SegmentData, checked_bytes

Model = Mapping[str, NDArray[Any]]


class Snapshot:
    """A generation with its segments, the rows of them that are live, and the shared models."""

    def __init__(
        self,
        manifest: Manifest,
        sha256: str,
        segments: Sequence[Segment],
        models: Mapping[str, Model],
    ) -> None:
        self.manifest = manifest
        self.sha256 = sha256
        self.segments = tuple(segments)
        self.models = MappingProxyType(dict(models))
        self.count = sum(segment.count for segment in segments)

    def __repr__(self) -> str:
        return (
            f"<Snapshot of generation {self.generation}: {self.count} documents "
            f"in {len(self.segments)} segments>"
        )

    @property
    def generation(self) -> int:
        """The number of the manifest this is a view of."""
        return self.manifest.generation

    @property
    def config(self) -> dict[str, Any]:
        """What was fixed when the index was created."""
        return copy.deepcopy(self.manifest.config)

    @property
    def notes(self) -> dict[str, Any]:
        """What commits have noted, such as the loss ledger."""
        return copy.deepcopy(self.manifest.notes)

    @property
    def digest(self) -> str:
        """One sha256 for all that the index holds; two builds of the same bytes have the same."""
        return self.digest_without()

    def digest_without(self, *keys: str) -> str:
        """Return the digest of all but some of the shared artefacts."""
        models = [entry for key, entry in self.manifest.models.items() if key not in keys]
        lines = [f"{entry.name} {entry.sha256}" for entry in self.manifest.segments]
        lines += [f"{entry.name} {entry.sha256}" for entry in models]
        lines.sort()
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def find(self, identifier: str) -> tuple[int, int] | None:
        """Return (number of the segment, row) of a live document, None if there is none."""
        encoded = identifier.encode(errors="surrogatepass")
        newest, place = -1, None
        for number, segment in enumerate(self.segments):
            docs = segment.data.records
            record = docs.lookup(encoded)
            if record is not None and int(docs.seqs[record]) > newest:
                newest = int(docs.seqs[record])
                place = (number, record) if record < docs.rows else None
        return place


def open_model(root: Path, entry: ModelEntry, verify: str) -> Model:
    """Check and read one shared artefact."""
    directory = root / layout.MODELS / entry.name
    layout.require_folder(directory)
    path = directory / layout.MODEL_FILE
    data = checked_bytes(path, fs.Seal(entry.bytes, entry.sha256), verify)
    return MappingProxyType(tensors.load(data, path))


def open_snapshot(
    root: Path, manifest: Manifest, sha256: str, verify: str, known: dict[str, SegmentData]
) -> Snapshot:
    """Open all a manifest names. ``known`` holds segments opened before, and takes the new ones."""
    datas = []
    for entry in manifest.segments:
        data = known.get(entry.name)
        if data is None or data.entry != entry:
            data = SegmentData.open(root / layout.SEGMENTS / entry.name, entry, verify)
            known[entry.name] = data
        datas.append(data)
    models = {key: open_model(root, entry, verify) for key, entry in manifest.models.items()}
    segments = with_live_rows(datas)
    snapshot = Snapshot(manifest, sha256, segments, models)
    if snapshot.count != manifest.documents:
        raise Damaged(
            f"{root / layout.manifest_name(manifest.generation)} counts {manifest.documents} "
            f"documents, but the segments hold {snapshot.count}. Restore it from a snapshot."
        )
    return snapshot


def with_live_rows(datas: Sequence[SegmentData]) -> list[Segment]:
    """Work out from all records which rows are live."""
    wins = records.winners([data.records for data in datas])
    return [Segment(data, win[: data.records.rows]) for data, win in zip(datas, wins, strict=True)]


def extended(segments: Sequence[Segment], datas: Sequence[SegmentData]) -> list[Segment]:
    """Add segments whose records are all newer; takes time for what is added, not for all."""
    added = with_live_rows(datas)
    return [_superseded(segment, datas) for segment in segments] + added


def _superseded(segment: Segment, datas: Sequence[SegmentData]) -> Segment:
    docs = segment.data.records
    dead = {
        ours
        for data in datas
        for ours, _ in docs.matches(data.records)
        if ours < docs.rows and segment.live[ours]
    }
    if not dead:
        return segment
    live = segment.live.copy()
    live[np.fromiter(dead, np.int64, len(dead))] = False
    return Segment(segment.data, live)
