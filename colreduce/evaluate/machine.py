"""What measured: the machine, the libraries and this very code. Nothing heavy is imported."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import colreduce
from colreduce.libraries import installed

LIBRARIES = (
    "colreduce",
    "torch",
    "numpy",
    "scipy",
    "faiss-cpu",
    "faiss-gpu",
    "sentence-transformers",
    "transformers",
    "numba",
    "fastcluster",
    "bm25s",
    "ir-measures",
)


def machine() -> dict[str, Any]:
    """Return the processor, its cores, the memory, the system and the versions of libraries."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_bytes": _memory(),
        "system": platform.platform(aliased=True, terse=True),
        "python": platform.python_version(),
        "versions": versions(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed."""
    return installed(LIBRARIES)


@cache
def code_digest() -> str:
    """Return the sha256 of every module of this package: code that differs measures anew."""
    root = Path(colreduce.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def gpu() -> str | None:
    """Return the name of the graphics card, if torch is loaded and sees one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


@cache
def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
