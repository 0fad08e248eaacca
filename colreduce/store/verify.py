"""Re-reads every byte of an index and says what does not fit, file by file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from colreduce.errors import ColreduceError, Damaged
from colreduce.store import layout, manifest
from colreduce.store.manifest import Manifest
from colreduce.store.segment import SegmentData
from colreduce.store.snapshot import open_model, open_snapshot


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, and what was found wrong; an index is sound if nothing was."""

    generation: int
    documents: int
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether every byte is the one that was written."""
        return not self.problems


def verify(path: Path) -> Report:
    """Check an index without changing it and without stopping at the first problem.

    Raises NotAnIndex or NewerFormat if there is nothing this version can check. An index that is
    written to meanwhile is checked again from the start.
    """
    path = Path(path)
    while True:
        seen = manifest.generations(path)[-1:]
        report = _check(path)
        if report.sound or manifest.generations(path)[-1:] == seen:
            return report


def _check(path: Path) -> Report:
    try:
        newest, sha256 = manifest.newest(path)
    except (Damaged, FileNotFoundError) as problem:
        generation = max(manifest.generations(path), default=0)
        return Report(generation, 0, 0, 0, (_told(problem),))
    problems = list(_older_manifests(path, newest))
    opened: dict[str, SegmentData] = {}
    for entry in newest.segments:
        folder = path / layout.SEGMENTS / entry.name
        try:
            opened[entry.name] = SegmentData.open(folder, entry, "full")
        except (ColreduceError, OSError) as problem:
            problems.append(_told(problem))
    for model in newest.models.values():
        try:
            open_model(path, model, "full")
        except (ColreduceError, OSError) as problem:
            problems.append(_told(problem))
    documents = newest.documents
    if not problems:
        try:
            documents = open_snapshot(path, newest, sha256, "sizes", opened).count
        except (ColreduceError, OSError) as problem:
            problems.append(_told(problem))
    sizes = [size for data in opened.values() for size in data.sizes.values()]
    sizes += [model.bytes for model in newest.models.values()]
    return Report(newest.generation, documents, len(sizes), sum(sizes), tuple(problems))


def _older_manifests(path: Path, newest: Manifest) -> Iterator[str]:
    for generation in range(newest.oldest, newest.generation):
        try:
            manifest.load(path, generation)
        except (ColreduceError, OSError) as problem:
            yield _told(problem)


def _told(problem: BaseException) -> str:
    if isinstance(problem, FileNotFoundError):
        return f"{problem.filename} is missing."
    return str(problem)
