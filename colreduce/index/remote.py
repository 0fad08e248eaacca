"""Snapshots that are kept in object storage."""

from __future__ import annotations

import tempfile
from pathlib import Path

from colreduce.errors import AlreadyExists
from colreduce.objects import Objects, is_url
from colreduce.store import Store


def save(store: Store, target: str | Path) -> int:
    """Write the newest generation into a new file or object; return its number."""
    if not is_url(target):
        return store.save_to(Path(target))
    objects = Objects(str(target))
    if objects.exists():
        raise AlreadyExists(f"{target} exists; choose another name for the snapshot.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "snapshot.tar"
        generation = store.save_to(file)
        objects.upload(file)
    return generation


def restored(source: str | Path, path: Path) -> Store:
    """Make an index of such a file or object, and open it for writing."""
    if not is_url(source):
        return Store.restore(Path(source), path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "snapshot.tar"
        Objects(str(source)).download(file)
        return Store.restore(file, path)
