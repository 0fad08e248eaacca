"""Milliseconds per document of FDE encoding, beside fastembed's Muvera at equal parameters.

    python -m benchmarks.speed.fde --peer /path/to/python

``--peer`` names a Python that has fastembed installed, in an environment of its own. Both encode
the same shapes of 128-d unit vectors with 20 repetitions, 5 planes and an inner width of 16, and
take turns, so that a busy machine is busy for both. Wall time counts, with two threads for each;
the processor's own time is noted beside it, because it does not grow when others use the machine.
With ``--device cuda`` the share of the memory's bandwidth is measured, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks import common
from benchmarks.speed import device
from colreduce.fde import FdeConfig, document_blocks, draw
from colreduce.ragged import Ragged

DIM = 128
TOKENS = (32, 125, 300, 1030)
ROUNDS = 5
GOAL = 20.0

PEER = """
import json, sys, time
import numpy as np
from fastembed.postprocess.muvera import Muvera

tokens = int(sys.argv[1])
muvera = Muvera(128, 5, 16, 20, 42)
drawn = np.random.default_rng(0).standard_normal((10, tokens, 128)).astype(np.float32)
drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
muvera.process_document(drawn[0])
wall, cpu = time.perf_counter(), time.process_time()
for document in drawn:
    muvera.process_document(document)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([100 * wall, 100 * cpu]))
"""


def ours(tokens: int, where: str) -> tuple[float, float]:
    """Return milliseconds per document: on the clock and of the processor."""
    count = max(60_000 // tokens, 20) * (1 if where == "cpu" else 40)
    draws = torch.Generator(where).manual_seed(0)
    vectors = torch.randn(count * tokens, DIM, generator=draws, device=where)
    lengths = torch.full((count,), tokens, device=where)
    batch = Ragged(torch.nn.functional.normalize(vectors, dim=1), lengths)
    config = FdeConfig(dim=DIM, repetitions=20, bits=5, inner_dim=16)
    state = {name: tensor.to(where) for name, tensor in draw(config, 0).items()}

    def encode() -> None:
        for _ in document_blocks(batch, config, state):
            pass
        if where != "cpu":
            torch.cuda.synchronize()

    encode()
    wall, cpu = perf_counter(), process_time()
    encode()
    return 1000 * (perf_counter() - wall) / count, 1000 * (process_time() - cpu) / count


def peer(python: str, tokens: int) -> tuple[float, float]:
    """Return what fastembed needs."""
    asked = [python, "-c", PEER, str(tokens)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True)
    wall, cpu = json.loads(answer.stdout)
    return wall, cpu


def on_gpu(tokens: int, bandwidth: float) -> dict[str, float]:
    """Return milliseconds per document on a GPU, and what is moved in that time.

    Every token must be read, every encoding written. The share is of the bytes per second that a
    copy within the device moves.
    """
    wall, _ = ours(tokens, "cuda")
    moved = 1000 * (tokens * DIM * 4 + 20 * 32 * 16 * 4) / wall
    return {
        "cuda_ms": wall,
        "cuda_documents_per_s": 1000 / wall,
        "cuda_gb_per_s": moved / 1e9,
        "of_bandwidth": moved / bandwidth,
    }


def measure_gpu(limit: dict[str, float]) -> dict[str, Any]:
    """Return what is kept of a run on a GPU, and print it."""
    print("\nFDE, 20 repetitions of 32 blocks of 16, by document")
    rows = []
    for tokens in TOKENS:
        rows.append({"tokens": tokens, **on_gpu(tokens, limit["bytes"])})
        print("  " + " ".join(f"{name}={value:,.4f}" for name, value in rows[-1].items()))
    return {"machine": common.machine(), "limits": limit, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="a Python with fastembed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    if asked.device == "cuda":
        common.save("fde-speed-gpu", measure_gpu(device.limits()))
        return
    rows = []
    for tokens in TOKENS:
        turns = [
            (ours(tokens, "cpu"), peer(asked.peer, tokens) if asked.peer else None)
            for _ in range(ROUNDS)
        ]
        row: dict[str, float] = {"tokens": tokens}
        row["ms"], row["cpu_ms"] = (median(mine[i] for mine, _ in turns) for i in (0, 1))
        theirs = [other for _, other in turns if other is not None]
        if theirs:
            row["fastembed_ms"], row["fastembed_cpu_ms"] = (
                median(other[i] for other in theirs) for i in (0, 1)
            )
            row["times_as_fast"] = row["fastembed_ms"] / row["ms"]
            row["times_less_cpu"] = row["fastembed_cpu_ms"] / row["cpu_ms"]
        rows.append(row)
        print(" ".join(f"{name}={value:.3f}" for name, value in row.items()), file=sys.stderr)
    common.save("fde-speed", {"machine": common.machine(), "goal": GOAL, "rows": rows})


if __name__ == "__main__":
    main()
