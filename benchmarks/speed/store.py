"""How quickly an index changes, and what that costs those who search it meanwhile.

    python -m benchmarks.speed.store
    python -m benchmarks.speed.store --documents 5000 --changes 1000

Documents are 128 made vectors of 128 numbers, in clusters, as they would come from an encoder, so
encoding is not counted. Everything goes through `Index` with the recipe of the preset ``small``
or the one given, onto the disk below ``--folder``: the seconds of an fsync are those of that disk.
Every operation has one thread, as the server gives it. Small and large index are measured in the
same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks import common
from colreduce import Index

TOKENS, DIM = 128, 128
RECIPE = "ward(factor=8) | int8 | mean | maxsim(candidates=200)"
BATCH = 1000
SINGLE = 100  # upserts and deletes of one document that are timed
SEARCHES = 300


def made(count: int, seed: int) -> torch.Tensor:
    """Make documents whose tokens lie in clusters: [count, tokens, dim]."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, TOKENS // 8, DIM, generator=draw)
    which = torch.randint(TOKENS // 8, (count, TOKENS), generator=draw)
    noise = torch.randn(count, TOKENS, DIM, generator=draw)
    picked = torch.gather(centres, 1, which[:, :, None].expand(-1, -1, DIM))
    return torch.nn.functional.normalize(picked + 0.7 * noise, dim=2)


def blocks(documents: int, seed: int) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Yield ids and vectors of many documents, a batch at a time."""
    for first in range(0, documents, BATCH):
        count = min(BATCH, documents - first)
        yield [f"doc-{first + n:07d}" for n in range(count)], made(count, seed + first)


def spread(seconds: list[float]) -> dict[str, float]:
    """Return percentiles in milliseconds."""
    values = {name: float(np.percentile(seconds, q)) * 1000 for name, q in
              (("p50", 50), ("p95", 95), ("p99", 99))}  # fmt: skip
    return {**values, "count": len(seconds)}


def timed(work: Callable[[int], Any], times: int) -> list[float]:
    """Return the seconds of each call."""
    taken = []
    for number in range(times):
        started = perf_counter()
        work(number)
        taken.append(perf_counter() - started)
    return taken


def fsync_ms(folder: Path) -> float:
    """Return the median time of writing 4 KiB and an fsync, in milliseconds."""
    with (folder / "probe").open("wb", buffering=0) as file:

        def once(number: int) -> None:
            file.write(bytes(4096))
            os.fsync(file.fileno())

        return median(timed(once, 50)) * 1000


def fill(index: Index, documents: int) -> float:
    """Add documents in batches of a thousand, a commit each; return documents a second."""
    spent = 0.0
    for ids, vectors in blocks(documents, 1):
        items = list(vectors)
        started = perf_counter()
        index.add(ids, embeddings=items)
        spent += perf_counter() - started
    return documents / spent


def single(index: Index) -> dict[str, Any]:
    """Time upserts and deletes of one document each, every one of them on disk at its end."""
    some = list(made(SINGLE, 77))
    upsert = timed(lambda n: index.add([f"single-{n}"], embeddings=[some[n]]), SINGLE)
    delete = timed(lambda n: index.delete([f"single-{n}"]), SINGLE)
    return {"upsert_ms": spread(upsert), "delete_ms": spread(delete)}


def searches(index: Index, count: int = SEARCHES, refresh: bool = False) -> list[float]:
    """Time searches with 32 vectors each."""
    queries = made(8, 99)[:, :32]

    def ask(number: int) -> None:
        if refresh:
            index.refresh()
        index.search(queries[number % 8], 10)

    return timed(ask, count)


def beside_upserts(index: Index) -> dict[str, Any]:
    """Time searches while nothing else happens, and while a thread upserts without a pause.

    Searches by this process, and by another that only reads. How much of the difference is the
    machine's own is what searches take while another program multiplies matrices.
    """
    searches(index, 20)
    quiet = searches(index)
    stop, written = threading.Event(), [0]
    fresh = list(made(64, 5))

    def upsert() -> None:
        while not stop.is_set():
            index.add([f"live-{written[0] % 500}"], embeddings=[fresh[written[0] % 64]])
            written[0] += 1

    elsewhere = read_elsewhere(index.path)
    with another_busy():
        crowded = searches(index)
    writer = threading.Thread(target=upsert)
    writer.start()
    started = perf_counter()
    try:
        busy = searches(index)
        busy_elsewhere = read_elsewhere(index.path)
        took = perf_counter() - started
    finally:
        stop.set()
        writer.join()
    return {
        "quiet_ms": spread(quiet),
        "busy_ms": spread(busy),
        "crowded_ms": spread(crowded),
        "quiet_reader_ms": elsewhere,
        "busy_reader_ms": busy_elsewhere,
        "upserts_per_second": written[0] / took,
    }


@contextmanager
def another_busy() -> Iterator[None]:
    """Keep one core busy with something else."""
    work = "import torch; torch.set_num_threads(1); a = torch.rand(512, 512)\nwhile True: a @ a"
    with subprocess.Popen([sys.executable, "-c", work]) as other:
        try:
            yield
        finally:
            other.kill()


def read_elsewhere(folder: Path) -> dict[str, float]:
    """Time searches in a process that only reads, and looks for a new generation before each."""
    command = [sys.executable, "-m", "benchmarks.speed.store", "--reader", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=common.ROOT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def folder_bytes(path: Path) -> int:
    """Add up the sizes of all files; some may go meanwhile."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(folder) / name).stat().st_size
    return total


def churned(index: Index, documents: int, changes: int) -> dict[str, Any]:
    """Replace and delete documents, compact, and compare the disk with what is alive."""
    draw = np.random.default_rng(3)
    rows = draw.choice(documents, 2 * changes, replace=False)
    started = perf_counter()
    for first in range(0, changes, BATCH):
        some = rows[first : first + BATCH]
        ids = [f"doc-{row:07d}" for row in some]
        index.add(ids, embeddings=list(made(len(ids), 1000 + first)))
    deleted = [f"doc-{row:07d}" for row in rows[changes:]]
    for first in range(0, changes, BATCH):
        index.delete(deleted[first : first + BATCH])
    took = perf_counter() - started
    before = folder_bytes(index.path)
    started = perf_counter()
    index.compact(purge=True)
    compacting = perf_counter() - started
    about = index.describe()
    live = about["bytes"]["total"] + sum(about["bytes"][part] for part in ("texts", "sample"))
    after = folder_bytes(index.path)
    return {
        "changes_per_second": 2 * changes / took,
        "disk_before": before,
        "disk_after": after,
        "live_bytes": live,
        "disk_over_live": after / live,
        "compact_seconds": compacting,
        "documents": about["documents"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--changes", type=int, default=20_000)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--reader", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the indexes are made")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.reader:
        with Index.open(asked.reader) as index:
            searches(index, 20, refresh=True)
            print(json.dumps(spread(searches(index, refresh=True))))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        found: dict[str, Any] = {"machine": common.machine(), "recipe": asked.recipe}
        found["fsync_ms"] = fsync_ms(Path(place))
        for size in (min(1000, asked.documents), asked.documents):
            with Index.create(Path(place) / f"idx-{size}", recipe=asked.recipe, dim=DIM) as index:
                row: dict[str, Any] = {"batch_documents_per_second": fill(index, size)}
                row |= single(index)
                row |= beside_upserts(index)
                if size == asked.documents:
                    row["churn"] = churned(index, size, min(asked.changes, size // 2))
                found[f"{size} documents"] = row
                print(size, row, flush=True)
    print(f"written to {common.save('store-speed', found)}")


if __name__ == "__main__":
    main()
