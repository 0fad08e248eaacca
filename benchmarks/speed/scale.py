"""Search as a corpus grows to a million documents: time, recall, bytes, memory, time to open.

    python -m benchmarks.speed.scale

Writes ``scale-search.json`` and ``scale-search.png``. Documents are planted: ten at a time are
noisy copies of one set of sixteen vectors, which are drawn from directions that all documents
share and then moved a little. A query asks for one such set, two noisy copies of each vector, so
its ten nearest documents are known however large the corpus is. They are made in blocks, the same
each time, indexed by the batch indexer with the default first stage, and searched by another
process with one thread, whose memory and first opening are measured, too. On the smaller corpora
every document is scored as well, which shows whether what was planted is what MaxSim finds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.sources import Batch, Documents

import colreduce
from benchmarks.common import RESULTS, machine, save
from benchmarks.speed.building import Made, most
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

COUNTS = (10_000, 100_000, 1_000_000)
DIM, VECTORS, KIN = 128, 16, 10
SHARED, MOVED, NOISE, ASKED_NOISE = 20_000, 0.6, 0.5, 0.7
RECIPE = "int8 | mean | maxsim(candidates=200)"
QUERIES = 200
TOGETHER = 2_560  # documents made at a time
GOALS = {"open_s": 5.0, "p50_ms": 50.0, "recall": 0.95}


def directions() -> torch.Tensor:
    """Return what all documents draw from."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(SHARED, DIM, generator=draw)


def sets(first: int, count: int) -> torch.Tensor:
    """Make the sets of vectors that documents from ``first`` on are copies of: [sets, 16, 128]."""
    draw = torch.Generator().manual_seed(1_000_003 + first)
    groups = count // KIN
    which = torch.randint(SHARED, (groups, VECTORS), generator=draw)
    return directions()[which] + MOVED * torch.randn(groups, VECTORS, DIM, generator=draw)


def block(first: int) -> torch.Tensor:
    """Make the documents of one block: [documents, 16, 128], unit vectors."""
    draw = torch.Generator().manual_seed(2_000_003 + first)
    copies = sets(first, TOGETHER).repeat_interleave(KIN, 0)
    noisy = copies + NOISE * torch.randn(copies.shape, generator=draw)
    return torch.nn.functional.normalize(noisy, dim=2)


class Planted(Made):
    """The documents, as the indexer reads them."""

    name = "planted"

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Yield blocks from a document on."""
        for first in range(start - start % TOGETHER, self.count, TOGETHER):
            numbers = range(first, min(first + TOGETHER, self.count))
            tokens = block(first)[: len(numbers)].reshape(-1, DIM)
            lengths = torch.full((len(numbers),), VECTORS)
            ids = [str(number) for number in numbers]
            documents = Documents(ids, numbers, ids, vectors=Ragged(tokens, lengths))
            yield Batch(documents.take(slice(max(start - first, 0), None)))


def queries(count: int) -> Iterator[tuple[set[str], np.ndarray[Any, Any]]]:
    """Yield the ids of the nearest documents and the vectors of each query."""
    draw = torch.Generator().manual_seed(3)
    whole = count // TOGETHER * TOGETHER
    for number in torch.randint(whole // KIN, (QUERIES,), generator=draw).tolist():
        first = number * KIN // TOGETHER * TOGETHER
        wanted = sets(first, TOGETHER)[number - first // KIN].repeat(2, 1)
        asked = wanted + ASKED_NOISE * torch.randn(wanted.shape, generator=draw)
        kin = {str(number * KIN + each) for each in range(KIN)}
        yield kin, torch.nn.functional.normalize(asked, dim=1).numpy()


def built(count: int, folder: Path) -> dict[str, float]:
    """Build the index; return what the build took."""
    started = perf_counter()
    built = build(Planted(count), folder, Settings(recipe=Recipe.parse(RECIPE), ledger=False))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "build_s": perf_counter() - started,
        "segments": built.description["segments"],
        "bytes_per_doc": size / count,
        "build_memory": most(),
    }


def searched(count: int, folder: Path, exact: bool) -> dict[str, float]:
    """Open the index in this process and search it on one thread."""
    torch.set_num_threads(1)
    before = most()
    started = perf_counter()
    index = colreduce.Index.open(folder)
    opened = perf_counter() - started
    times, recalls, agreed = [], [], []
    for number, (kin, vectors) in enumerate(queries(count)):
        started = perf_counter()
        hits = index.search(vectors, k=KIN)
        times.append(1000 * (perf_counter() - started))
        recalls.append(len(kin & {hit.id for hit in hits}) / KIN)
        if exact and number < 20:
            every = index.search(vectors, k=KIN, exact=True)
            agreed.append(len(kin & {hit.id for hit in every}) / KIN)
    p50, p95, p99 = np.percentile(times[5:], [50, 95, 99])
    found = {"open_s": opened, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "first_ms": times[0]}
    found |= {"recall": float(np.mean(recalls)), "memory": most(), "memory_before": before}
    return found | ({"planted_is_exact": float(np.mean(agreed))} if agreed else {})


def picture(rows: list[dict[str, Any]]) -> None:
    """Draw time and bytes over the number of documents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    counts = [row["documents"] for row in rows]
    left.plot(counts, [row["p50_ms"] for row in rows], "o-", label="median")
    left.plot(counts, [row["p99_ms"] for row in rows], "o--", label="99 %")
    left.axhline(GOALS["p50_ms"], color="grey", lw=0.8, label="goal for the median")
    left.set(xscale="log", yscale="log", xlabel="documents", ylabel="ms a query, one thread")
    left.legend(frameon=False)
    sizes = [row["bytes_per_doc"] * row["documents"] / 1e9 for row in rows]
    right.plot(counts, sizes, "o-", label="on disk")
    right.plot(
        counts, [row["memory"] / 1e9 for row in rows], "o--", label="memory, mapped included"
    )
    right.set(xscale="log", yscale="log", xlabel="documents", ylabel="GB")
    right.legend(frameon=False)
    left.yaxis.set_minor_formatter("")
    for axis, ticks in ((left, (1, 2, 5, 10, 20, 50)), (right, (0.05, 0.1, 0.2, 0.5, 1, 2))):
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    figure.tight_layout()
    figure.savefig(RESULTS / "scale-search.png", dpi=150)


def part(*arguments: str) -> dict[str, Any]:
    """Run one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed.scale", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="the largest corpus")
    parser.add_argument("--step", choices=("build", "search"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step == "build":
        sys.stdout.write(json.dumps(built(asked.count, asked.folder)) + "\n")
        return
    if asked.step == "search":
        exact = asked.count <= COUNTS[1]
        sys.stdout.write(json.dumps(searched(asked.count, asked.folder, exact)) + "\n")
        return
    rows = []
    for count in (count for count in COUNTS if count <= asked.most):
        folder = Path(tempfile.mkdtemp(prefix="scale-"))
        where = ("--count", str(count), "--folder", str(folder / "idx"))
        row = {"documents": count} | part("--step", "build", *where)
        row |= part("--step", "search", *where)
        shutil.rmtree(folder)
        rows.append(row)
        save("scale-search", {"machine": machine(), "recipe": RECIPE, "goals": GOALS, "rows": rows})
        sys.stderr.write(" ".join(f"{name}={value:,.5g}" for name, value in row.items()) + "\n")
    picture(rows)


if __name__ == "__main__":
    main()
