"""Everything that is measured on a CUDA device, in one run of a minute or so.

    python -m benchmarks.speed.gpu --out FOLDER

Writes ``maxsim-speed-gpu.json``, ``reducer-speed-gpu.json`` and ``fde-speed-gpu.json`` and prints
them as tables. What the device can do at most is measured first, once for all of them. One part
that fails is named at the end and does not stop the others.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import common
from benchmarks.speed import device, fde, maxsim_device, reducers_device

Part = Callable[[dict[str, float]], dict[str, Any]]
PARTS: dict[str, Part] = {
    "maxsim-speed-gpu": maxsim_device.measure,
    "fde-speed-gpu": fde.measure_gpu,
    "reducer-speed-gpu": reducers_device.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where results go")
    parser.add_argument("--part", choices=tuple(PARTS), action="append", help="measure only this")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    started = perf_counter()
    limit = device.limits()
    print(device.shown(limit))
    failed = []
    for name in asked.part or PARTS:
        began = perf_counter()
        try:
            common.save(name, PARTS[name](limit), asked.out)
        except Exception:
            failed.append(name)
            traceback.print_exc(limit=8)
        torch.cuda.empty_cache()
        print(f"{name}: {perf_counter() - began:.0f} s", flush=True)
    print(f"\n{perf_counter() - started:.0f} s; failed: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
