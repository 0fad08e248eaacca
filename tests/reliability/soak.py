"""Many small changes in one process: nothing may grow without bound."""

import os
import random
import resource
from dataclasses import dataclass, field
from pathlib import Path

from colreduce.store import Store
from tests.reliability import workload

BALLAST = "BALLAST"


@dataclass
class Figures:
    runs: int = 0
    compactions: int = 0
    most_segments: int = 0
    failures: list[str] = field(default_factory=list)


def soak(folder: Path, operations, seed=1):
    """Put, delete and compact what is due; watch files, memory and disk."""
    figures = Figures()
    draw = random.Random(seed)
    path = folder / "index"
    store = Store.create(path, {})
    state, descriptors, memory = {}, 0, 0
    every = [f"document-{n:04d}" for n in range(300)]
    for number in range(1, operations + 1):
        ids = draw.sample(every, draw.randint(1, 4))
        with store.begin() as writer:
            if draw.random() < 0.3:
                writer.delete(ids)
                for name in ids:
                    state.pop(name, None)
            else:
                workload.fill(writer, ids, number)
                state |= dict.fromkeys(ids, number)
            store.commit([writer])
        figures.runs += 1
        figures.most_segments = max(figures.most_segments, len(store.snapshot().segments))
        if due := store.due():
            store.compact(due, purge=figures.compactions % 4 == 3, rewrite=workload.rewrite)
            figures.compactions += 1
        if number == operations // 5:  # what is allocated once has been allocated
            descriptors, memory = _descriptors(), _memory()
    store.compact(purge=True, rewrite=workload.rewrite)
    _judge(figures, store, state, descriptors, memory, operations)
    store.close()
    return figures


def _judge(figures, store, state, descriptors, memory, operations):
    if workload.read(store.snapshot())[1] != state:
        figures.failures.append("the index does not hold what was put into it")
    if _descriptors() > descriptors + 5:
        figures.failures.append(f"open files went from {descriptors} to {_descriptors()}")
    grown = (_memory() - memory) / max(1, operations * 4 // 5) * 10_000
    if operations >= 10_000 and grown > 8 << 20:
        figures.failures.append(f"memory grew by {grown / (1 << 20):.1f} MiB per 10,000 operations")
    if figures.most_segments > 64:
        figures.failures.append(f"there were {figures.most_segments} segments at once")
    live = sum(sum(segment.bytes.values()) for segment in store.snapshot().segments)
    used = sum(
        p.stat().st_size
        for p in store.path.rglob("*")
        if p.is_file() and p.name != BALLAST and not p.name.startswith("catalogue")
    )
    if used > 2.2 * live:
        figures.failures.append(f"{used} bytes on disk for {live} live ones")


def _descriptors():
    return len(os.listdir("/proc/self/fd"))


def _memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
