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
    root: Path,
    manifest: Manifest,
    sha256: str,
    verify: str,
    known: dict[str, SegmentData],
    before: Snapshot | None = None,
) -> Snapshot:
    """Open all a manifest names. ``known`` holds segments opened before, and takes the new ones.

    ``before`` is an earlier generation; what has not changed since is taken over from it.
    """
    datas = []
    for entry in manifest.segments:
        data = known.get(entry.name)
        if data is None or data.entry != entry:
            data = SegmentData.open(root / layout.SEGMENTS / entry.name, entry, verify)
            known[entry.name] = data
        datas.append(data)
    models = {}
    for key, model in manifest.models.items():
        same = before is not None and before.manifest.models.get(key) == model
        models[key] = before.models[key] if before and same else open_model(root, model, verify)
    segments = with_live_rows(datas, () if before is None else before.segments)
    snapshot = Snapshot(manifest, sha256, segments, models)
    if snapshot.count != manifest.documents:
        raise Damaged(
            f"{root / layout.manifest_name(manifest.generation)} counts {manifest.documents} "
            f"documents, but the segments hold {snapshot.count}. Restore it from a snapshot."
        )
    return snapshot


def with_live_rows(datas: Sequence[SegmentData], before: Sequence[Segment] = ()) -> list[Segment]:
    """Work out from all records which rows are live.

    ``before`` are the segments of an earlier generation. Rows that were dead in it stay dead, so
    its records need only be compared with those that have come since, which takes time for what
    has changed and not for all.
    """
    known = {segment.data.entry: segment for segment in before}
    kept = [known[data.entry] for data in datas if data.entry in known]
    fresh = [data for data in datas if data.entry not in known]
    wins = records.winners([data.records for data in fresh])
    # This takes from ``wins`` what an older segment has newer records of, too.
    found = {segment.data.entry: _superseded(segment, fresh, wins) for segment in kept}
    for data, win in zip(fresh, wins, strict=True):
        found[data.entry] = Segment(data, win[: data.records.rows])
    return [found[data.entry] for data in datas]


def _superseded(
    segment: Segment, fresh: Sequence[SegmentData], wins: Sequence[NDArray[np.bool_]]
) -> Segment:
    """Compare a segment with newer ones; of two records of one id only the later one may live."""
    docs = segment.data.records
    dead = set()
    for data, win in zip(fresh, wins, strict=True):
        for ours, theirs in docs.matches(data.records):
            if docs.seqs[ours] > data.records.seqs[theirs]:
                win[theirs] = False
            elif ours < docs.rows and segment.live[ours]:
                dead.add(ours)
    if not dead:
        return segment
    live = segment.live.copy()
    live[np.fromiter(dead, np.int64, len(dead))] = False
    return Segment(segment.data, live)
