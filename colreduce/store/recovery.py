"""What a writer does to the leftovers of an earlier one, and which files may go.

Nothing here repairs anything. Temporary files go, what the kept manifests do not name goes, and a
segment that is newer than the manifest is set aside for a human.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

from colreduce.errors import Damaged
from colreduce.store import fs, layout, manifest

log = logging.getLogger(__name__)


def sweep_temporary(root: Path) -> None:
    """Remove everything named ``.tmp*``. Only the holder of the lock may do so."""
    for folder in (root, root / layout.SEGMENTS, root / layout.MODELS):
        for entry in fs.list_entries(folder):
            if entry.name.startswith(layout.TEMPORARY):
                remove(Path(entry.path))


def remove(path: Path) -> None:
    """Remove a file or a folder; a link is removed, not followed."""
    if path.is_dir() and not path.is_symlink():
        fs.rmtree(path)
    else:
        fs.unlink(path)


def set_aside_newer(root: Path, generation: int) -> None:
    """Move segments that a crash left behind before their manifest was published."""
    moved = False
    for entry in fs.list_entries(root / layout.SEGMENTS):
        found = layout.segment_generation(entry.name)
        if found is None or found <= generation:
            continue
        quarantine = root / layout.QUARANTINE
        make_folder(quarantine)
        target, number = quarantine / entry.name, 1
        while target.exists():
            number += 1
            target = quarantine / f"{entry.name}.{number}"
        fs.rename(Path(entry.path), target)
        log.warning("%s was never committed and is kept in %s", entry.name, target)
        moved = True
    if moved:
        fs.fsync_dir(root / layout.QUARANTINE)
        fs.fsync_dir(root / layout.SEGMENTS)


def make_folder(path: Path) -> None:
    """Make a folder of the index if it is not there, and force its name to the disk."""
    if not path.is_dir():
        fs.mkdir(path)
        fs.fsync_dir(path.parent)


def remove_unreferenced(
    root: Path, newest: manifest.Manifest, *, in_use: Iterable[str] = (), min_age: float = 0.0
) -> list[str]:
    """Remove old manifests, then segments and models that no kept manifest names; return them.

    ``in_use`` names folders that a snapshot of this process still shows. Nothing younger than
    ``min_age`` seconds goes: another process may be about to open it.
    """
    for generation in manifest.generations(root):
        if generation < newest.oldest:
            fs.unlink(root / layout.manifest_name(generation))
    try:
        keep = _named(root, newest) | set(in_use)
    except Damaged as problem:  # an older manifest; what it names is not known, so all stays
        log.warning("nothing is removed from %s: %s", root, problem)
        return []
    gone = []
    for entry in fs.list_entries(root / layout.SEGMENTS) + fs.list_entries(root / layout.MODELS):
        number = layout.segment_generation(entry.name)
        old = number is not None and number <= newest.generation
        if entry.name in keep or not (old or layout.is_model(entry.name)):
            continue
        if min_age > 0 and time.time() - entry.stat(follow_symlinks=False).st_mtime < min_age:
            continue
        remove(Path(entry.path))
        gone.append(entry.name)
    return gone


def _named(root: Path, newest: manifest.Manifest) -> set[str]:
    keep: set[str] = set()
    for generation in range(newest.oldest, newest.generation + 1):
        kept = newest
        if generation != newest.generation:
            kept, _ = manifest.load(root, generation)
        keep |= kept.names()
    return keep
