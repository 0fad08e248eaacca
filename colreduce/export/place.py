"""Where an export appears: under its name at once, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colreduce.errors import AlreadyExists, BadInput
from colreduce.store import fs

TEMPORARY = ".exporting"


@contextmanager
def appearing(out: Path, *, replace: bool) -> Iterator[Path]:
    """Give a place beside ``out`` to write to; move it to ``out`` when the block ends well.

    A file or folder that stands there is replaced only if ``replace`` says so, and then after the
    new one is complete. If the block fails, it stays as it was.
    """
    check_vacant(out, replace=replace)
    place = out.with_name(f"{TEMPORARY}-{os.getpid()}-{out.name}")
    try:
        yield place
        settle(place)
        old = out.with_name(f"{TEMPORARY}-{os.getpid()}-old-{out.name}")
        if out.exists():
            fs.rename(out, old)
        fs.rename(place, out)
        remove(old)
        fs.fsync_dir(out.parent)
    except BaseException:
        remove(place)
        raise


def check_vacant(out: Path, *, replace: bool) -> None:
    """Refuse a name that cannot be written to, or is taken."""
    if not out.parent.is_dir():
        raise BadInput(f"there is no folder {out.parent} to write {out.name} into", field="out")
    if out.exists() and not replace:
        raise AlreadyExists(f"{out} exists. Choose another name, or replace it with --yes.")


def settle(place: Path) -> None:
    """Force everything under a path to the disk, whoever wrote it."""
    if place.is_dir():
        for entry in fs.list_entries(place):
            settle(Path(entry.path))
        fs.fsync_dir(place)
        return
    fd = fs.open_read(place)
    try:
        fs.fsync(fd, place)
    finally:
        os.close(fd)


def remove(place: Path) -> None:
    """Remove a file or a folder; it need not exist."""
    if place.is_dir():
        fs.rmtree(place)
    else:
        fs.unlink(place)


def size(place: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if place.is_dir():
        return sum(size(Path(entry.path)) for entry in fs.list_entries(place))
    return place.stat().st_size
