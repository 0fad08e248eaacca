"""Milliseconds per document of FDE encoding, beside fastembed's Muvera at equal parameters.

    python -m benchmarks.speed.fde --peer /path/to/python

``--peer`` names a Python that has fastembed installed, in an environment of its own. Both encode
the same shapes of 128-d unit vectors with 20 repetitions, 5 planes and an inner width of 16, and
take turns, so that a busy machine is busy for both. Wall time counts, with two threads for each;
the processor's own time is noted beside it, because it does not grow when others use the machine.
On a CUDA device the share of the memory's bandwidth is measured, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from time import perf_counter, process_time

import torch

from benchmarks import common
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


def ours(tokens: int, device: str) -> tuple[float, float]:
    """Return milliseconds per document: on the clock and of the processor."""
    count = max(60_000 // tokens, 20) * (1 if device == "cpu" else 40)
    draws = torch.Generator(device).manual_seed(0)
    vectors = torch.randn(count * tokens, DIM, generator=draws, device=device)
    lengths = torch.full((count,), tokens, device=device)
    batch = Ragged(torch.nn.functional.normalize(vectors, dim=1), lengths)
    config = FdeConfig(dim=DIM, repetitions=20, bits=5, inner_dim=16)
    state = {name: tensor.to(device) for name, tensor in draw(config, 0).items()}

    def encode() -> None:
        for _ in document_blocks(batch, config, state):
            pass
        if device != "cpu":
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


def on_gpu(tokens: int) -> dict[str, float]:
    """Return the time on a GPU, and the bytes that must be read and written in that time."""
    wall, _ = ours(tokens, "cuda")
    moved = tokens * DIM * 4 + 20 * 32 * 16 * 4
    return {"cuda_ms": wall, "cuda_gb_per_s": moved / wall / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="a Python with fastembed")
    asked = parser.parse_args()
    torch.set_num_threads(2)
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
        if torch.cuda.is_available():
            row |= on_gpu(tokens)
        rows.append(row)
        print(" ".join(f"{name}={value:.3f}" for name, value in row.items()), file=sys.stderr)
    common.save("fde-speed", {"machine": common.machine(), "goal": GOAL, "rows": rows})


if __name__ == "__main__":
    main()
