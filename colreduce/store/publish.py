"""The first half of a commit: everything that must lie on the disk before the manifest names it."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.store import fs, layout, recovery, tensors
from colreduce.store.compact import Moved
from colreduce.store.manifest import Manifest, ModelEntry, SegmentEntry
from colreduce.store.segment import Segment, SegmentData
from colreduce.store.snapshot import Model, Snapshot, open_model, with_live_rows
from colreduce.store.writer import Sealed, SegmentWriter

_NUMBERS = itertools.count()
log = logging.getLogger(__name__)
_BACK = layout.KEPT_MANIFESTS - 1
_NO_ROWS = np.empty(0, np.bool_)


@dataclass
class Change:
    """What one commit adds, and the folders it has placed so far."""

    writers: list[SegmentWriter]
    models: dict[str, Mapping[str, NDArray[Any]]]
    notes: dict[str, Any]
    removed: frozenset[str] = frozenset()  # segments whose rows have moved into the one writer's
    moved: Moved = ()
    purge: bool = False  # leave no older generation behind
    placed: list[Path] = field(default_factory=list)

    def drop_empty(self) -> None:
        """Leave out writers that would change nothing."""
        for writer in self.writers:
            if writer.empty:
                writer.abort()
        self.writers = [writer for writer in self.writers if not writer.empty]

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to publish."""
        added = self.writers or self.models or self.notes
        return not (added or self.removed or self.purge)


@dataclass(frozen=True)
class Placed:
    """A manifest whose every file lies on the disk, and the view it will give."""

    manifest: Manifest
    segments: list[Segment]
    added: list[Segment]
    models: Mapping[str, Model]


def place(root: Path, before: Snapshot, change: Change) -> Placed:
    """Write what the change adds, force it to the disk, and make the manifest that names it."""
    old = before.manifest
    generation, seq = old.generation + 1, old.next_seq
    entries = dict(old.models)
    models = dict(before.models)
    for key, arrays in change.models.items():
        entries[key] = _place_model(
            root, before, change, layout.checked_name(key, "a model"), arrays
        )
        models[key] = open_model(root, entries[key], "written")
    sealed = []
    for writer in change.writers:
        sealed.append(writer.seal(seq))
        seq += writer.operations
    added = [_place_segment(root, generation, part, change) for part in sealed]
    if added:
        fs.fsync_dir(root / layout.SEGMENTS)
    folder = root / layout.SEGMENTS
    datas = [SegmentData.open(folder / entry.name, entry, "written") for entry in added]
    # Records that were carried over brought their seqs; later ones must be greater.
    seq = max([seq, *(int(data.records.seqs.max(initial=-1)) + 1 for data in datas)])
    if change.removed:
        segments, new = _exchanged(before, change, datas)
    else:
        old_datas = [segment.data for segment in before.segments]
        segments = with_live_rows([*old_datas, *datas], before.segments)
        new = segments[len(before.segments) :]
    manifest = Manifest(
        generation=generation,
        oldest=generation if change.purge else max(old.oldest, generation - _BACK),
        config=old.config,
        next_seq=seq,
        documents=sum(segment.count for segment in segments),
        segments=tuple(segment.data.entry for segment in segments),
        models=entries,
        notes={**old.notes, **change.notes},
    )
    return Placed(manifest, segments, new, models)


def _exchanged(
    before: Snapshot, change: Change, datas: list[SegmentData]
) -> tuple[list[Segment], list[Segment]]:
    """Put the compacted segment in the place of its inputs; return all, and the new one.

    A row that was superseded while it was being moved is dead in its input by now, so it is dead
    in its new place, too.
    """
    now = {segment.name: segment.live for segment in before.segments}
    lives = [now[segment.name][rows] for segment, rows in change.moved]
    new = [Segment(data, np.concatenate([*lives, _NO_ROWS])) for data in datas]
    place = min(n for n, s in enumerate(before.segments) if s.name in change.removed)
    kept = [s for s in before.segments if s.name not in change.removed]
    return [*kept[:place], *new, *kept[place:]], new


def undo(change: Change) -> None:
    """Remove the folders of a commit that did not come about."""
    for folder in change.placed:
        try:
            fs.rmtree(folder)
        except OSError as problem:
            log.warning("%s is left for the next open to remove: %s", folder, problem)


def _place_segment(root: Path, generation: int, sealed: Sealed, change: Change) -> SegmentEntry:
    name = layout.segment_name(generation, sealed.seal.sha256)
    target = root / layout.SEGMENTS / name
    if target.exists():  # left by a commit of the same number that failed
        recovery.remove(target)
    fs.rename(sealed.directory, target)
    change.placed.append(target)
    return SegmentEntry(name, sealed.seal.bytes, sealed.seal.sha256, sealed.rows, sealed.deletes)


def _place_model(
    root: Path, before: Snapshot, change: Change, key: str, arrays: Mapping[str, NDArray[Any]]
) -> ModelEntry:
    data = tensors.dump(arrays)
    temporary = root / layout.MODELS / f"{layout.TEMPORARY}-{os.getpid()}-{next(_NUMBERS)}"
    fs.mkdir(temporary)
    change.placed.append(temporary)
    seal = fs.write_once(temporary / layout.MODEL_FILE, data)
    known = {entry.sha256: entry for entry in before.manifest.models.values()}
    if seal.sha256 in known:
        fs.rmtree(temporary)
        return known[seal.sha256]
    fs.fsync_dir(temporary)
    name = f"model-{seal.sha256[:8]}"
    if any(entry.name == name for entry in known.values()):
        name = f"model-{seal.sha256}"
    target = root / layout.MODELS / name
    if target.exists():  # no manifest names it: left by a commit that failed
        recovery.remove(target)
    fs.rename(temporary, target)
    change.placed.append(target)
    fs.fsync_dir(root / layout.MODELS)
    return ModelEntry(name, seal.bytes, seal.sha256)
