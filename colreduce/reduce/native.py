"""Native code for single documents.

For what cannot be batched, or is far cheaper one document at a time on a CPU. The kernels
(`colreduce.reduce.kernels`) are compiled by numba, which is optional: without it other ways to
the same result are taken. Kernels release the GIL, so `colreduce.threads` runs several at a time.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any


@cache
def compiled() -> Any | None:
    """Return the module of compiled kernels, or None where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    from colreduce.reduce import kernels

    return kernels
