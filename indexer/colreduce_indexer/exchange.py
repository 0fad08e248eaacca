"""Finished pieces on their way through object storage, between machines that share no disk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import ColreduceError
from colreduce.objects import Objects


@dataclass(frozen=True, slots=True)
class Left:
    """A piece that lies in the exchange: its folder there, and the names of its files."""

    folder: str
    names: tuple[str, ...]


class Exchange:
    """A folder of its own for one build, below a URL that all machines can reach."""

    def __init__(self, url: str) -> None:
        """Anything that ends an earlier build without a word leaves its folder there."""
        self.url = f"{url.rstrip('/')}/colreduce-{secrets.token_hex(8)}"
        self._objects = Objects(self.url)

    def take(self, left: Left) -> dict[str, NDArray[np.uint8]]:
        """Fetch a piece; its bytes are held against their seals where it is kept."""
        return {
            name: np.frombuffer(self._objects.get(f"{left.folder}/{name}"), np.uint8)
            for name in left.names
        }

    def drop(self, left: Left) -> None:
        """Remove a piece that was fetched; what cannot be removed goes with the rest."""
        with suppress(ColreduceError):
            self._objects.remove(left.folder)

    def close(self) -> None:
        """Remove all that is there."""
        with suppress(ColreduceError):
            self._objects.remove("")


def leave(url: str, number: int, files: Mapping[str, Any]) -> Left:
    """Put a piece into the exchange at ``url``, in a folder that no other one can have."""
    objects, folder = Objects(url), f"piece-{number}-{secrets.token_hex(8)}"
    for name, data in files.items():
        objects.put(f"{folder}/{name}", data)
    return Left(folder, tuple(files))
