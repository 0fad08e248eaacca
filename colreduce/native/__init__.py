"""Native code for searches on a CPU: stored numbers are read, multiplied and compared.

Searches run in threads, and threads hand Python's lock to each other between any two steps. A step
that does much keeps it out of the way: two threads that took forty small steps each answered no
more than one. So the kernels take whole arrays, and release the lock.

They are compiled by numba, which is optional: without it, torch and numpy find the same.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray
    from torch import Tensor


@cache
def has_numba() -> bool:
    """Say whether kernels can be compiled."""
    return find_spec("numba") is not None


@cache
def kernels() -> ModuleType:
    """Load the kernels, once they are needed: it takes a fifth of a second."""
    from colreduce.native import compiled

    return compiled


def bits(numbers: Tensor) -> NDArray[Any]:
    """Return an array that kernels take, over the same bytes: halves as the integers they are."""
    taken = numbers.view(torch.int16) if numbers.dtype == torch.float16 else numbers
    found: NDArray[Any] = taken.numpy()
    return found


class Rooms:
    """Memory to work in, lent to one search at a time: fresh memory costs as much as filling it."""

    # Rooms that are kept between searches, each of no more numbers than this.
    MOST, LARGEST = 16, 1 << 21

    def __init__(self) -> None:
        self._free: list[NDArray[np.float32]] = []

    @contextmanager
    def lend(self, numbers: int) -> Iterator[NDArray[np.float32]]:
        """Lend room for so many numbers."""
        try:
            room = self._free.pop()  # one step, so no two threads get the same
        except IndexError:
            room = np.empty(0, np.float32)
        if len(room) < numbers:
            room = np.empty(numbers, np.float32)
        try:
            yield room[:numbers]
        finally:
            if len(room) <= self.LARGEST and len(self._free) < self.MOST:
                self._free.append(room)


ROOMS = Rooms()
