"""Reducers on a CUDA device, as `benchmarks.speed.reducers --device cuda` measures them.

As many documents go in at once as fill the device. Two shares say how near a method is to what
the device can do: of the memory's bandwidth, if all it did were to read every vector and write
those that are left; and of the bare product of all pairs of tokens, timed beside it, which a
method that compares every token with every other has to compute. sentence-transformers' pooling,
which is compared with, runs on two threads of the same machine, on a small batch.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import common
from benchmarks.speed import device
from benchmarks.speed.reducers import (
    ALL_PAIRS,
    DIM,
    FACTOR,
    built,
    compared,
    theirs,
    timed,
    with_known,
)
from benchmarks.speed.reducers import documents as made
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS

DOCUMENTS = {125: 8192, 300: 2048, 1030: 512}
# Batches of sentence-transformers' pooling: its rate does not grow with them.
THEIRS = {125: 64, 300: 24, 1030: 6}
GOAL = 100
# How many times fewer documents these are given: they work on documents one by one, in native
# threads beside the device, or take long for each.
FEWER = {"ward": 16, "agglomerative": 16, "spectral": 64, "dominance": 32, "voronoi": 8}


def documents(count: int, tokens: int) -> Ragged:
    """Make documents on the device as `benchmarks.speed.reducers` makes them on CPU."""
    draws = torch.Generator("cuda").manual_seed(0)
    near = max(tokens // 6, 1)
    centres = torch.randn(count, near, DIM, generator=draws, device="cuda")
    which = torch.randint(near, (count, tokens), generator=draws, device="cuda")
    rows = centres.gather(1, which[:, :, None].expand(-1, -1, DIM))
    rows += 0.7 * torch.randn(count, tokens, DIM, generator=draws, device="cuda") + 0.5
    lengths = torch.full((count,), tokens, device="cuda")
    return with_known(Ragged(normalize(rows.view(-1, DIM), dim=1), lengths))


def measure(limit: dict[str, float], only: list[str] | None = None) -> dict[str, Any]:
    """Return rates, ratios and shares by method and length, and print them."""
    found: dict[str, dict[str, float]] = {}
    shares: dict[str, dict[str, dict[str, float]]] = {}
    failed: dict[str, str] = {}
    against = ""
    for tokens, count in DOCUMENTS.items():
        rate, against = _theirs(THEIRS[tokens], tokens)
        found.setdefault("sentence-transformers", {})[str(tokens)] = rate
        batch = documents(count, tokens)
        pairs = count / _pairs(batch, count, tokens)
        found.setdefault(ALL_PAIRS, {})[str(tokens)] = pairs
        for name in only or REDUCERS:
            try:
                rate, left = _rate(name, batch.take(slice(0, count // FEWER.get(name, 1))))
            except Exception as error:  # the others are measured all the same
                failed[f"{name} {tokens}"] = f"{type(error).__name__}: {error}"[:300]
                print(f"{name} {tokens}: {failed[f'{name} {tokens}']}", flush=True)
                continue
            found.setdefault(name, {})[str(tokens)] = rate
            moved = 4 * DIM * (tokens + left)
            shares.setdefault(name, {})[str(tokens)] = {
                "of_bandwidth": rate * moved / limit["bytes"],
                "of_pairs": rate / pairs,
            }
        del batch
    ratios = compared(found)
    print(f"\nsentence-transformers: {against}")
    _print(found, ratios, shares)
    return {
        "machine": common.machine(),
        "factor": FACTOR,
        "documents": DOCUMENTS,
        "fewer": FEWER,
        "limits": limit,
        "against": against,
        "failed": failed,
        "rates": found,
        "ratios": ratios,
        "shares": shares,
    }


def _theirs(count: int, tokens: int) -> tuple[float, str]:
    """Return documents per second of the other pooling on CPU, and what was measured."""
    try:
        return theirs(count, tokens), f"{version('sentence-transformers')}, two CPU threads"
    except ImportError:
        items = made(count, tokens)
        rate = count / timed(lambda: [_in_its_steps(item) for item in items], 3)
        return rate, "no release that pools is installed; its steps by scipy, two CPU threads"


def _in_its_steps(vectors: Tensor) -> Tensor:
    """Pool one document in the steps of sentence-transformers' hierarchical pooling."""
    far = (1 - vectors @ vectors.T).clamp(0, 2).numpy()
    tree = linkage(far[np.triu_indices(len(far), 1)].astype(np.float64), method="ward")
    groups = torch.from_numpy(fcluster(tree, len(far) // FACTOR, criterion="maxclust")).long() - 1
    sums = torch.zeros(int(groups.max()) + 1, DIM).index_add_(0, groups, vectors)
    return normalize(sums, dim=1)


def _pairs(batch: Ragged, count: int, tokens: int) -> float:
    whole = batch.tokens.view(count, tokens, DIM)
    return device.seconds(lambda: torch.bmm(whole, whole.transpose(1, 2)))


def _rate(name: str, batch: Ragged) -> tuple[float, float]:
    """Return documents per second, and how many vectors are left of each."""
    reducer = built(name)
    state = reducer.fit(batch, seed=0)
    time = device.seconds(lambda: reducer.reduce(batch, state), 3)
    left = len(reducer.reduce(batch, state).batch.tokens) / len(batch)
    return len(batch) / time, left


def _print(
    found: dict[str, dict[str, float]],
    ratios: dict[str, dict[str, float]],
    shares: dict[str, dict[str, dict[str, float]]],
) -> None:
    heads = "".join(f"{length:>26} tokens" for length in DOCUMENTS)
    print(f"\n{'documents/s, times theirs, of bandwidth':40}\n{'method':22}{heads}")
    for name, row in found.items():
        cells = []
        for length in map(str, DOCUMENTS):
            if length not in row:
                cells.append(f"{'failed':>35}")
                continue
            rate, share = row[length], shares.get(name, {}).get(length)
            told = f"{share['of_bandwidth']:6.1%}" if share else " " * 6
            cells.append(f"{rate:12,.0f}/s {ratios[name][length]:8.1f}x {told}")
        print(f"{name:22}" + "  ".join(cells), flush=True)


def main(only: list[str] | None) -> None:
    limit = device.limits()
    print(device.shown(limit))
    print(f"\nwritten to {common.save('reducer-speed-gpu', measure(limit, only))}")
