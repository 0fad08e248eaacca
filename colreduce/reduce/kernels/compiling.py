"""Compiling with numba, and what several kernels need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Numbers: TypeAlias = NDArray[Any]

I32, I64 = np.int32, np.int64

BLOCK = 64  # numbers compared before looking where the smallest is


def native(function: Function) -> Function:
    """Compile a function on its first call, and keep the compiled code on disk."""
    return cast(Function, njit(nogil=True, cache=True)(function))


def vectorised(function: Function) -> Function:
    """Compile as `native` does, free to reorder sums and not to check for division by zero."""
    options = {"nogil": True, "cache": True, "fastmath": True, "error_model": "numpy"}
    return cast(Function, njit(**options)(function))


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
