"""What a CUDA device can do at most, and how long work on it takes.

Limits are measured in the run that compares with them: the memory's by copying a large array
within the device (bytes read and written), the arithmetic's by a large matrix product of each kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch

GIB = 1 << 30
SIDE = 8192


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Return the median seconds from asking for work to its end, after one run that is left out."""
    work()
    taken = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(perf_counter() - started)
    return median(taken)


def limits() -> dict[str, float]:
    """Return bytes moved and operations done per second, at most."""
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device here")
    found = {"bytes": _copied(2 * GIB)}
    for name, kind in (("fp32", torch.float32), ("fp16", torch.float16)):
        left, right = torch.randn(2, SIDE, SIDE, device="cuda").to(kind)
        found[name] = 2 * SIDE**3 / seconds(lambda a=left, b=right: a @ b)  # type: ignore[misc]
        del left, right
    return found


def _copied(size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), 9)


def shown(limit: dict[str, float]) -> str:
    """Return the limits as a line for people."""
    return (
        f"{torch.cuda.get_device_name()}: copies {limit['bytes'] / 1e9:,.0f} GB/s, multiplies "
        f"{limit['fp32'] / 1e12:,.0f} TFLOP/s in fp32 and {limit['fp16'] / 1e12:,.0f} in fp16"
    )
