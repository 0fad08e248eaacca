"""A file in the making: held in memory while it is small, written as it grows beyond that.

A commit of one document consists of many small parts. Each of them in a file of its own would have
to be forced to the disk on its own, which takes longer than all the rest; so small parts share one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from colreduce.store import fs, layout


class Spool:
    """Takes bytes. ``make`` begins the file, once there are too many of them for the memory."""

    def __init__(self, make: Callable[[], fs.Sink]) -> None:
        self._make = make
        self._held = bytearray()
        self._sink: fs.Sink | None = None

    @property
    def small(self) -> bool:
        """Whether all of it is still in memory."""
        return self._sink is None

    @property
    def held(self) -> bytearray:
        """What is in memory."""
        return self._held

    def write(self, data: Any) -> int:
        """Add bytes, or anything that is a buffer of bytes; return how many."""
        view = memoryview(data).cast("B")
        if self._sink is None and len(self._held) + len(view) <= layout.PACKED:
            self._held += view
            return len(view)
        if self._sink is None:
            self._sink = self._make()
            self._sink.write(self._held)
            self._held = bytearray()
        self._sink.write(view)
        return len(view)

    def finish(self) -> fs.Seal:
        """Force a file that was begun to the disk, and say what it holds."""
        assert self._sink is not None, "what is small goes into the pack"
        return self._sink.finish()

    def abandon(self) -> None:
        """Close a file that was begun, without a promise about what it holds."""
        if self._sink is not None:
            self._sink.abandon()


def packed(parts: Mapping[str, Spool]) -> tuple[bytes, dict[str, list[int]]]:
    """Lay small parts end to end; return that, and where each begins and how long it is."""
    block = bytearray()
    places = {}
    for name, part in sorted(parts.items()):
        places[name] = [len(block), len(part.held)]
        block += part.held
        block += bytes(-len(block) % layout.ALIGNMENT)
    return bytes(block), places
