"""Many indexes under one folder, each by its name and each on its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from colreduce.choose import hint
from colreduce.errors import AlreadyExists, BadInput, NotFound
from colreduce.index.index import Index
from colreduce.rpc.limits import NAME, check_name
from colreduce.store import fs, manifest
from colreduce.store.committer import taken

# What is so named was dropped; whatever of it is left is removed by the next who drops something.
DROPPED = ".dropped-"


class Collections:
    """The indexes in a folder.

    Nothing is shared between them: one that is damaged or full is no trouble for the others. There
    is no list of them beside the folder itself, so none that could be wrong. A folder that is no
    index is left alone, and so is an index whose name no collection can have.
    """

    def __init__(self, root: str | Path) -> None:
        """``root`` is made with the first collection, if it is not there."""
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise BadInput(f"{self.root} is a file; wanted a folder of indexes")
        if is_index(self.root):
            raise BadInput(
                f"{self.root} is an index itself, not a folder of indexes: "
                f"use Index.open, or give {self.root.parent}"
            )

    def names(self) -> list[str]:
        """Return the names of all collections, damaged ones included."""
        if not self.root.is_dir():
            return []
        found = (Path(entry.path) for entry in fs.list_entries(self.root))
        return sorted(path.name for path in found if NAME.fullmatch(path.name) and is_index(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(NAME.fullmatch(name)) and is_index(self.root / name)

    def path(self, name: str) -> Path:
        """Return the folder of a collection that is there."""
        check_name(name, "name")
        if name not in self:
            raise NotFound(
                f"there is no collection {name!r} in {self.root}.{hint(name, self.names())}"
            )
        return self.root / name

    def create(self, name: str, **how: Any) -> Index:
        """Make an empty collection; ``how`` is what `Index.create` takes."""
        check_name(name, "name")
        if name in self or (self.root / name).is_symlink():
            raise AlreadyExists(f"there is a collection or a link {name!r} already")
        # A folder that holds anything is refused here, but for what a crash left of a creation.
        return Index.create(self.root / name, **how)

    def open(self, name: str, **how: Any) -> Index:
        """Open a collection; ``how`` is what `Index.open` takes."""
        return Index.open(self.path(name), **how)

    def drop(self, name: str) -> None:
        """Remove a collection with all it holds, damaged or not.

        It is gone in one step, whatever happens then; its bytes follow. `Locked` if some process
        writes to it. Who still reads it reads on until it closes it.
        """
        self.set_aside(name)
        self.sweep()

    def set_aside(self, name: str) -> None:
        """Take a collection away in one step, and leave its bytes for `sweep` to remove."""
        path = self.path(name)
        if path.is_symlink():
            raise BadInput(f"{path} is a link to an index elsewhere: remove it by hand")
        lock = taken(path)
        try:
            gone = self.root / f"{DROPPED}{name}-{secrets.token_hex(4)}"
            fs.rename(path, gone)
            fs.fsync_dir(self.root)
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove what is left of dropped collections."""
        for entry in fs.list_entries(self.root):
            if entry.name.startswith(DROPPED):
                with suppress(FileNotFoundError):  # somebody else removes it, too
                    fs.rmtree(Path(entry.path))


def is_index(path: Path) -> bool:
    """Say whether a folder is meant to be an index, whole or damaged; not if it may not be read."""
    try:
        return path.is_dir() and bool(manifest.generations(path))
    except PermissionError:
        return False
