"""What a batch build costs: processor time beside encoding alone, and memory as a corpus grows.

    python -m benchmarks.speed.building

Writes ``building.json`` and ``building.png``. Memory is measured on documents of random vectors
that are made as they are asked for, each corpus in a process of its own. Cost is measured on
documents of SciFact: what all stages take beside encoding, the ledger included, as a share of what
encoding takes in the same build. The documents that methods learn from are encoded twice, which is
not counted: there are 512 of them in a corpus of any size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import process_time
from typing import Any

import torch
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.progress import Silence
from colreduce_indexer.sources import Batch, Documents, open_source

from benchmarks.common import RESULTS, data, encoder_folder, machine, save
from colreduce.embed import load_encoder
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

COUNTS = (25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
TOKENS, DIM, TOGETHER = 32, 64, 256
SYNTHETIC = "window(size=8) | int8 | mean | maxsim"
TEXTS = 400


class Made:
    """Documents of random vectors, the same each time they are read."""

    name, vectors = "made", True

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self, start: int = 0) -> Iterator[Batch]:
        for first in range(start - start % TOGETHER, self.count, TOGETHER):
            numbers = range(first, min(first + TOGETHER, self.count))
            draw = torch.Generator().manual_seed(first)
            tokens = torch.randn(len(numbers) * TOKENS, DIM, generator=draw)
            lengths = torch.full((len(numbers),), TOKENS)
            ids = [f"document-{number}" for number in numbers]
            documents = Documents(ids, numbers, ids, vectors=Ragged(tokens, lengths))
            yield Batch(documents.take(slice(max(start - first, 0), None)))

    def state(self) -> list[list[Any]] | None:
        return None


class Sampler(Silence):
    """Keeps the memory of the process beside the number of documents."""

    def __init__(self) -> None:
        self.samples: list[tuple[str, int, int]] = []

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        self.samples.append((what, done, now()))

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        if kind == "piece":
            self.samples.append(("piece", facts["piece"], now()))


def now() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def most() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def memory(count: int, folder: Path) -> dict[str, Any]:
    """Build an index of so many made documents; return what it took at most."""
    settings = Settings(recipe=Recipe.parse(SYNTHETIC), ledger=False)
    before, sampler = most(), Sampler()
    built = build(Made(count), folder / "idx", settings, teller=sampler)
    return {
        "documents": count,
        "before": before,
        "most": most(),
        "at_most_building": max(size for _, _, size in sampler.samples),
        "segments": built.description["segments"],
        "seconds": built.seconds,
    }


def cost() -> dict[str, Any]:
    """Compare the processor time of a build with that of encoding alone."""
    encoder = load_encoder(encoder_folder())
    source = open_source(data("beir", "scifact"), vectors=False)
    texts = [text for batch in source.read() for text in batch.documents.texts or []][:TEXTS]
    for _ in encoder.documents(texts[:64]):
        pass
    started = process_time()
    for _ in encoder.documents(texts):
        pass
    alone = process_time() - started
    settings = Settings(recipe=Recipe.parse("balanced"), limit=len(texts))
    with tempfile.TemporaryDirectory() as folder:
        started = process_time()
        built = build(source, Path(folder) / "idx", settings, encoder=encoder)
        whole = process_time() - started
    behind = {name: value for name, value in built.seconds.items() if name not in ("fit", "encode")}
    return {
        "documents": len(texts),
        "encoding_alone": alone,
        "build": whole,
        "stages": built.seconds,
        "beside_encoding": sum(behind.values()) / built.seconds["encode"],
    }


def picture(rows: list[dict[str, Any]]) -> None:
    """Draw the memory of builds over the number of documents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.4))
    counts = [row["documents"] for row in rows]
    axes.plot(counts, [row["most"] / 1e6 for row in rows], "o-", label="at most")
    axes.plot(counts, [row["before"] / 1e6 for row in rows], "--", label="before the build")
    axes.axhline(2000, color="grey", lw=0.8)
    axes.annotate("--memory 2GB", (counts[0], 2010), fontsize=8, color="grey")
    axes.set(xscale="log", xlabel="documents", ylabel="memory, MB", ylim=(0, 2200))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(RESULTS / "building.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="the largest corpus")
    parser.add_argument("--no-cost", action="store_true", help="leave the encoder out")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps(memory(options.one, Path(folder))) + "\n")
        return
    rows = []
    for count in (count for count in COUNTS if count <= options.most):
        command = [sys.executable, "-m", "benchmarks.speed.building", "--one", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        sys.stderr.write(f"{count:,} documents: {rows[-1]['most'] / 1e6:,.0f} MB at most\n")
    found: dict[str, Any] = {"machine": machine(), "recipe": SYNTHETIC, "memory": rows}
    if not options.no_cost:
        found["cost"] = cost()
    save("building", found)
    picture(rows)


if __name__ == "__main__":
    main()
