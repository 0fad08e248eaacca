"""Work on single documents in native code, several documents at a time, without the GIL.

For what cannot be batched, or is far cheaper one document at a time on a CPU. The kernels
(`colreduce.reduce.kernels`) are compiled by numba, which is optional: without it other ways to
the same result are taken.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


@cache
def compiled() -> Any | None:
    """Return the module of compiled kernels, or None where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    from colreduce.reduce import kernels

    return kernels


def share_out(count: int, run: Callable[[int, int], None]) -> None:
    """Call ``run(start, end)`` for runs of documents that together are 0 .. ``count``.

    As many runs go on at a time as torch may use threads. ``run`` is expected to release the GIL.
    """
    workers = min(torch.get_num_threads(), count)
    if workers < 2:
        run(0, count)
        return
    # Smaller pieces than threads, for documents take unequally long.
    pieces = min(count, workers * 4)
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
