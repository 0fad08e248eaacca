"""Documents per second of every reducer, beside sentence-transformers' hierarchical pooling.

    python -m benchmarks.speed.reducers

Both are given the same unit vectors in the same run, on two threads, at 125, 300 and 1,030 tokens
of 128 numbers, and leave one vector in four. Each is run once to warm up and then several times;
the median counts. Ratios are of this run only: seconds differ from machine to machine. The bare
product of all pairs stands beside them: no method that compares every token with every other can
be quicker than that. ``--device cuda`` measures `benchmarks.speed.reducers_device` in its place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks import common
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS
from colreduce.reduce.base import Budgeted, Reducer

DOCUMENTS = {125: 256, 300: 96, 1030: 24}
FACTOR = 4
DIM = 128
GOALS = {"ward": (2, 2, 2), "kmeans": (4, 4, 8), "cover": (4, 4, 8)}
# Quadratic in the tokens with a large constant: one round shows enough.
SLOW = ("dominance", "voronoi", "spectral")
ALL_PAIRS = "bare product of pairs"
# No tokenizer stands behind made vectors: a third of their vocabulary is dropped instead.
DROPPED = {"ids": ",".join(map(str, range(10_000)))}


def documents(count: int, tokens: int, seed: int = 0) -> list[torch.Tensor]:
    """Make documents whose tokens lie in clusters around a common mean, as real ones do."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        centres = torch.randn(max(tokens // 6, 1), DIM, generator=draw)
        which = torch.randint(len(centres), (tokens,), generator=draw)
        noise = torch.randn(tokens, DIM, generator=draw)
        made.append(torch.nn.functional.normalize(centres[which] + 0.7 * noise + 0.5, dim=1))
    return made


def timed(work: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of several rounds after one that does not count."""
    work()
    seconds = []
    for _ in range(rounds):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return median(seconds)


def with_known(batch: Ragged) -> Ragged:
    """Give the tokens the metadata that some methods need."""
    tokens, device = len(batch.tokens), batch.device
    draw = torch.Generator().manual_seed(1)
    side = 5
    grid = torch.tensor([[0, side, side]], device=device).expand(len(batch), 3)
    return Ragged(
        batch.tokens,
        batch.lengths,
        token_ids=torch.randint(30_000, (tokens,), generator=draw).to(device),
        word_ids=batch.positions * 2 // 3,
        special=torch.zeros(tokens, dtype=torch.bool, device=device),
        importance=torch.rand(tokens, generator=draw).to(device),
        grid=grid.contiguous(),
    )


def theirs(count: int, tokens: int) -> float:
    """Return the documents per second of sentence-transformers' pooling, which works on CPU."""
    from sentence_transformers.multi_vector_encoder.modules.token_pooling import (
        HierarchicalTokenPooling,
    )

    pooling = HierarchicalTokenPooling(pool_factor=FACTOR)
    items = documents(count, tokens)
    return count / timed(lambda: pooling.pool(items), 3)


def built(name: str) -> Reducer:
    """Return a reducer as it is measured: one vector in four, where it takes a budget."""
    given = DROPPED if name in ("stopwords", "punctuation") else {}
    row = REDUCERS[name]
    return row.build({"factor": FACTOR} if issubclass(row, Budgeted) else given)


def rates(only: list[str] | None) -> dict[str, dict[str, float]]:
    """Return documents per second on CPU by method and length."""
    found: dict[str, dict[str, float]] = {}
    for tokens, count in DOCUMENTS.items():
        found.setdefault("sentence-transformers", {})[str(tokens)] = theirs(count, tokens)
        items = documents(count, tokens)
        whole = torch.stack(items)
        seconds = timed(lambda w=whole: torch.bmm(w, w.transpose(1, 2)), 5)  # type: ignore[misc]
        found.setdefault(ALL_PAIRS, {})[str(tokens)] = count / seconds
        batch = with_known(Ragged.pack(items))
        for name in only or REDUCERS:
            reducer = built(name)
            state = reducer.fit(batch, seed=0)
            work = lambda r=reducer, b=batch, s=state: r.reduce(b, s)  # noqa: E731
            seconds = timed(work, 1 if name in SLOW else 5)
            found.setdefault(name, {})[str(tokens)] = count / seconds
            print(f"{name} {tokens}: {count / seconds:,.0f} documents/s", flush=True)
    return found


def compared(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return how many times as fast as sentence-transformers each method is, by length."""
    pooling = found["sentence-transformers"]
    return {
        name: {length: rate / pooling[length] for length, rate in row.items()}
        for name, row in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    if asked.device == "cuda":
        from benchmarks.speed import reducers_device

        reducers_device.main(asked.methods)
        return
    found = rates(asked.methods)
    ratios = compared(found)
    content = {"machine": common.machine(), "factor": FACTOR, "rates": found, "ratios": ratios}
    file = common.save("reducer-speed-cpu", content)
    print(f"\n{'method':24}" + "".join(f"{length:>14} tokens" for length in DOCUMENTS))
    for name, row in found.items():
        cells = [f"{row[str(n)]:9,.0f}/s {ratios[name][str(n)]:7.1f}x" for n in DOCUMENTS]
        goal = f"   goal {'/'.join(map(str, GOALS[name]))}x" if name in GOALS else ""
        print(f"{name:24}" + "   ".join(cells) + goal)
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
