"""Where vectors are computed: a CPU or one CUDA device, by name."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from colreduce.errors import BadInput

AUTO, CPU = "auto", "cpu"


@cache
def has_triton() -> bool:
    """Say whether kernels for CUDA devices can be compiled."""
    return find_spec("triton") is not None


def chosen(name: str) -> str:
    """Return the device that a name stands for: cpu, or cuda with its number.

    ``auto`` is the first CUDA device, or the CPU where there is none. A device that is asked for
    by name and is not there is an error: nothing takes its place in silence.
    """
    import torch

    if name == CPU:
        return CPU
    kind, _, number = name.partition(":")
    if name != AUTO and (kind != "cuda" or (number and not number.isdecimal())):
        raise BadInput(f"there is no device {name!r}; wanted auto, cpu or cuda:N", field="device")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == AUTO and not count:
        return CPU
    if int(number or 0) >= count:
        there = f"devices 0 to {count - 1}" if count else "no CUDA device"
        raise BadInput(
            f"device {name!r} was asked for, and there is {there} here. Ask for cpu or auto, or "
            "install a torch that is built for CUDA.",
            field="device",
        )
    return f"cuda:{number or 0}"
