"""Native code for single documents.

For what cannot be batched, or is far cheaper one document at a time on a CPU. The kernels
(`colreduce.reduce.kernels`) are compiled by numba, which is optional: without it other ways to
the same result are taken. Kernels release the GIL, so `colreduce.threads` runs several at a time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from colreduce.native import has_numba


@cache
def compiled() -> Any | None:
    """Return the module of compiled kernels, or None where numba is not installed."""
    if not has_numba():
        return None
    from colreduce.reduce import kernels

    return kernels
