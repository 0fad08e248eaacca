"""Everything that is measured on a CUDA device, in one run of a minute or so.

    python -m benchmarks.speed.gpu --out FOLDER

Writes ``maxsim-speed-gpu.json``, ``reducer-speed-gpu.json``, ``fde-speed-gpu.json`` and
``faiss-speed-gpu.json`` and prints them as tables. What the device can do at most is measured
first, once for all of them. One part that fails is named at the end and does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import common
from benchmarks.speed import device, faiss_device, fde, maxsim_device, reducers_device

Part = Callable[[dict[str, float]], dict[str, Any]]
PARTS: dict[str, Part] = {
    "maxsim-speed-gpu": maxsim_device.measure,
    "fde-speed-gpu": fde.measure_gpu,
    "reducer-speed-gpu": reducers_device.measure,
    "faiss-speed-gpu": faiss_device.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where results go")
    parser.add_argument("--part", choices=tuple(PARTS), help="measure only this")
    parser.add_argument("--limits", help="what the device can do, as JSON, if it is known")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    if asked.part:
        limit = json.loads(asked.limits) if asked.limits else device.limits()
        common.save(asked.part, PARTS[asked.part](limit), asked.out)
        return 0
    started = perf_counter()
    limit = device.limits()
    print(device.shown(limit), flush=True)
    failed = []
    for name in PARTS:
        began = perf_counter()
        # A process each: one that breaks the device's context takes nobody with it.
        told = ["--part", name, "--out", str(asked.out), "--limits", json.dumps(limit)]
        done = subprocess.run([sys.executable, "-m", "benchmarks.speed.gpu", *told])
        failed += [name] if done.returncode else []
        print(f"{name}: {perf_counter() - began:.0f} s", flush=True)
    print(f"\n{perf_counter() - started:.0f} s; failed: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
