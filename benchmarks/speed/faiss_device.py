"""FAISS on a CUDA device beside FAISS on two threads: training, one query, many queries.

A million vectors lie in clusters, as first-stage vectors do. The indexes are those of the stores
`ivf` and `ivfpq`, made, trained and sent to the device by the code that the stores use. Only
the lists are trained there and only searches happen there: an index is filled, written and read on
the CPU. Queries are stored vectors with noise, and as many lists are looked into as by default.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import common
from colreduce.candidates.vectors import gpu, kinds, library

KINDS = {"ivf": kinds.IVF, "ivfpq": kinds.IVFPQ}
WIDTH, COUNT, SAMPLE, CLUSTERS = 128, 1_000_000, 100_000, 20_000
QUERIES, DEPTH = 256, 100


def made() -> NDArray[np.float32]:
    """Make the vectors: unit length, in clusters."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(CLUSTERS, WIDTH, generator=draw)
    which = torch.randint(CLUSTERS, (COUNT,), generator=draw)
    noisy = centres[which] + 0.6 * torch.randn(COUNT, WIDTH, generator=draw)
    found: NDArray[np.float32] = torch.nn.functional.normalize(noisy, dim=1).numpy()
    return found


def trained(kind: kinds.Kind, sample: NDArray[np.float32], device: bool) -> tuple[Any, float]:
    """Train an index, its lists on the device or not; return it and the seconds."""
    index = kind.make(WIDTH, len(sample))
    started = perf_counter()
    if device:
        gpu.train(index, sample)
    else:
        index.train(sample)
    return index, perf_counter() - started


def searched(index: Any, queries: NDArray[np.float32], lists: int) -> tuple[Any, dict[str, float]]:
    """Search one by one and all at once; return the rows and the milliseconds of a query."""
    asked = library.load_faiss().SearchParametersIVF(nprobe=lists)
    index.search(queries[:8], DEPTH, params=asked)
    alone = []
    for row in range(len(queries)):
        started = perf_counter()
        index.search(queries[row : row + 1], DEPTH, params=asked)
        alone.append(perf_counter() - started)
    started = perf_counter()
    rows = index.search(queries, DEPTH, params=asked)[1]
    together = perf_counter() - started
    return rows, {"one_ms": 1000 * median(alone), "many_ms": 1000 * together / len(queries)}


def measure(limit: dict[str, float]) -> dict[str, Any]:
    """Return what is kept of a run, and print it."""
    print(f"\nFAISS, {COUNT:,} vectors of {WIDTH} numbers, by query")
    library.load_faiss().omp_set_num_threads(2)
    vectors = made()
    noise = np.random.default_rng(0).standard_normal((QUERIES, WIDTH), np.float32)
    queries = vectors[:: COUNT // QUERIES][:QUERIES] + 0.05 * noise
    rows = []
    for name, kind in KINDS.items():
        # The first use of a device pays for making its context.
        trained(kind, vectors[:2000], True)
        _, cpu_s = trained(kind, vectors[:SAMPLE], False)
        index, cuda_s = trained(kind, vectors[:SAMPLE], True)
        index.add(vectors)
        there = gpu.on_gpu(index)
        if there is None:
            raise SystemExit(f"{name} does not go to this device")
        lists = int(index.nlist) // 8
        mine, here = searched(index, queries, lists)
        theirs, moved = searched(there, queries, lists)
        shared = [len(set(a[:10]) & set(b[:10])) / 10 for a, b in zip(mine, theirs, strict=True)]
        rows.append(
            {
                "store": name,
                "lists": int(index.nlist),
                "looked_into": lists,
                "train_s": cpu_s,
                "cuda_train_s": cuda_s,
                **here,
                **{f"cuda_{key}": value for key, value in moved.items()},
                "same_top_10": float(np.mean(shared)),
            }
        )
        print("  " + " ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    return {"machine": common.machine(), "limits": limit, "rows": rows}
