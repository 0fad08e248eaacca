"""Where a new index may be made, and how a failed attempt is cleared away."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from colreduce.errors import AlreadyExists
from colreduce.store import fs, layout, manifest, recovery

# What a build that was cut short leaves, its last step included.
_OF_A_BUILD = frozenset({layout.BUILDING, layout.SEGMENTS, layout.MODELS})


def require_vacant(path: Path, *, begun: bool = False) -> None:
    """Refuse a path where an index, a file or a folder that is not empty stands.

    begun  an index that is being built there piece by piece is no obstacle
    """
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir():
        raise AlreadyExists(f"{path} is a file; give a folder that is new or empty.")
    if manifest.generations(path):
        raise AlreadyExists(f"{path} already holds an index. Open it, or choose another folder.")
    began = begun and (path / layout.BUILDING).is_dir()
    for entry in fs.list_entries(path):
        if entry.name == layout.BUILDING and not begun:
            raise AlreadyExists(
                f"{path} holds a build that is not finished: go on with it by 'colreduce index', "
                "or choose another folder."
            )
        if not (_is_leftover(entry) or (began and entry.name in _OF_A_BUILD)):
            raise AlreadyExists(
                f"{path} is not empty: it holds {entry.name!r}. Choose another folder."
            )


def make_folders(path: Path) -> list[Path]:
    """Make a folder and those above it that are missing; return the ones made, outermost first."""
    made: list[Path] = []
    try:
        for folder in reversed([path, *path.parents]):
            if not folder.exists():
                fs.mkdir(folder)
                made.append(folder)
                fs.fsync_dir(folder.parent)
    except BaseException:
        clear_away(path, made)
        raise
    return made


def clear_away(path: Path, made: list[Path]) -> None:
    """Remove what a failed creation has made; never anything with a manifest in it."""
    with suppress(OSError):
        if manifest.generations(path):
            return
        for entry in fs.list_entries(path):
            recovery.remove(Path(entry.path))
        for folder in reversed(made):
            fs.rmdir(folder)


def _is_leftover(entry: os.DirEntry[str]) -> bool:
    """Say whether a name is what a creation that was cut short may have left."""
    if entry.name == layout.LOCK or entry.name.startswith(layout.TEMPORARY):
        return True
    return entry.name in {layout.SEGMENTS, layout.MODELS} and not fs.list_entries(Path(entry.path))
