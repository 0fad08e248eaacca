"""Compiling with numba, and what several kernels need."""

from __future__ import annotations

from typing import Any

import numpy as np

from colreduce.native.compiled import Function, Numbers, compiled_with, native

__all__ = ["BLOCK", "I32", "I64", "Numbers", "first_largest", "native", "vectorised", "weight_of"]

I32, I64 = np.int32, np.int64

BLOCK = 64  # numbers compared before looking where the smallest is


def vectorised(function: Function) -> Function:
    """Compile as `native` does, free to reorder sums and not to check for division by zero."""
    return compiled_with(function, fastmath=True, error_model="numpy")


@native
def weight_of(weights: Any, token: int) -> int:
    """Return a token's weight; without weights all count alike."""
    return 1 if len(weights) == 0 else weights[token]


@native
def first_largest(values: Any) -> int:
    """Return the place of the first largest of whole numbers."""
    largest, block = values[0], 0
    for start in range(0, len(values), BLOCK):
        most = _most(values[start : min(start + BLOCK, len(values))])
        if most > largest:
            largest, block = most, start
    for place in range(block, len(values)):
        if values[place] == largest:
            return place
    return 0


@native
def _most(values: Any) -> Any:
    most = values[0]
    for place in range(len(values)):
        most = max(most, values[place])
    return most
