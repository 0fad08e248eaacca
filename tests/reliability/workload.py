"""What the crash instruments do to an index, and what must be there afterwards.

A workload is a list of steps made from a seed. Every step that commits notes its own number, and
every document tells the number of the step that put it in five places at once: its metadata, its
text, a row per document, its tokens and a file of its own. So one look at an index says which step
it has reached and whether anything in it is mixed up.
"""

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colreduce.store import Store

KINDS = ("upsert", "delete", "chunk", "compact", "partial", "model", "purge", "reopen")
POOL = [f"doc-{n:02d}" for n in range(12)]

# The longest part that shares a file with others here: some parts do, and some do not.
PACKED = 48


def quick_disk():
    """Return a folder in memory where there is one; what is tested here never needs a real disk."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


@dataclass(frozen=True)
class Step:
    number: int
    kind: str
    ids: tuple[str, ...] = ()
    seed: int = 0


def steps(seed, count, first=1):
    """Make a workload. Every kind occurs in the first dozen, whatever the seed."""
    fixed = ("chunk", "upsert", "delete", "compact", "upsert", "model", "delete", "partial",
             "upsert", "reopen", "upsert", "purge", "delete", "compact")  # fmt: skip
    made = []
    for number in range(first, first + count):
        draw = random.Random(seed * 1_000_003 + number)
        kind = draw.choice(("upsert",) * 6 + ("delete",) * 4 + KINDS)
        if number <= len(fixed):
            kind = fixed[number - 1]
        size = {"upsert": draw.randint(1, 3), "delete": draw.randint(1, 2), "chunk": 8}.get(kind, 0)
        made.append(Step(number, kind, tuple(draw.sample(POOL, size)), draw.randrange(1 << 30)))
    return made


def expected(state, step):
    """Return the documents (id -> number of the step that put it) after one more step."""
    after = dict(state)
    if step.kind in {"upsert", "chunk"}:
        after |= dict.fromkeys(step.ids, step.number)
    if step.kind == "delete":
        for name in step.ids:
            after.pop(name, None)
    return after


def states(made):
    """Return the documents after 0, 1, 2, ... steps."""
    found = [{}]
    for step in made:
        found.append(expected(found[-1], step))
    return found


def apply(store, step):
    """Do one step; return the store, which a reopening replaces."""
    if step.kind in {"upsert", "chunk"}:
        with store.begin() as writer:
            fill(writer, step.ids, step.number)
            store.commit([writer], notes={"step": step.number})
    elif step.kind == "delete":
        with store.begin() as writer:
            writer.delete(step.ids)
            store.commit([writer], notes={"step": step.number})
    elif step.kind == "model":
        weights = np.full(5, step.number, np.float32)
        store.commit(models={"shared": {"weights": weights}}, notes={"step": step.number})
    elif step.kind == "reopen":
        path = store.path
        store.close()
        store = Store.open(path, write=True)
    else:
        names = None
        if step.kind == "partial":
            every = [segment.name for segment in store.snapshot().segments]
            draw = random.Random(step.seed)
            names = draw.sample(every, (len(every) + 1) // 2)
        store.compact(names, purge=step.kind == "purge", rewrite=rewrite)
    return store


def fill(writer, ids, number):
    """Put documents that all tell the number."""
    lengths = np.array([1 + (number + n) % 3 for n in range(len(ids))], np.uint16)
    writer.add(ids, [{"step": number}] * len(ids), [f"put by step {number}"] * len(ids))
    writer.append("values", np.full(len(ids), number, np.int32), per="document")
    writer.append("lengths", lengths, per="document")
    writer.append("tokens", np.full((int(lengths.sum()), 2), number % 2048, np.float16),
                  per="lengths")  # fmt: skip
    writer.blob(
        "ann.faiss", lambda stream: stream.write(np.full(len(ids), number, "<i4").tobytes())
    )


def rewrite(moved, writer):
    """Make the file that the store cannot move by itself."""
    parts = [segment.buffers["ann.faiss"].view("<i4")[rows].tobytes() for segment, rows in moved]
    writer.blob("ann.faiss", lambda stream: stream.write(b"".join(parts)))


class Mixed(Exception):
    """An index that opens but does not hold what one generation held."""


def read(snapshot):
    """Return (number of the step it has reached, documents), after checking every place."""
    found = {}
    for number, segment in enumerate(snapshot.segments):
        if not segment.rows:
            continue
        ends = np.cumsum(segment.arrays["lengths"], dtype=np.int64)
        file = segment.buffers["ann.faiss"].view("<i4")
        for row in map(int, np.flatnonzero(segment.live)):
            name, value = segment.ids[row], int(segment.arrays["values"][row])
            tokens = segment.arrays["tokens"][
                ends[row] - segment.arrays["lengths"][row] : ends[row]
            ]
            told = (
                segment.metadata(row) == {"step": value},
                segment.text(row) == f"put by step {value}",
                len(tokens) > 0 and bool((tokens == value % 2048).all()),
                int(file[row]) == value,
                snapshot.find(name) == (number, row),
                name not in found,
            )
            if not all(told):
                raise Mixed(f"{name} in {segment.name}: {told}")
            found[name] = value
    if len(found) != snapshot.count:
        raise Mixed(f"{len(found)} documents were read, {snapshot.count} are counted")
    return int(snapshot.notes.get("step", 0)), found


def check_catalogue(store):
    """Compare what SQLite shows with the truth."""
    path = store.path / "catalogue.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        shown = dict(db.execute("SELECT id, json_extract(meta, '$.step') FROM docs"))
        gen = db.execute("SELECT gen FROM meta").fetchone()[0]
    if shown != read(store.snapshot())[1] or gen != store.snapshot().generation:
        raise Mixed(f"the catalogue of generation {gen} shows {shown}")


def check(path: Path, allowed):
    """Open an index as a reader and as a writer; return the step it has reached.

    ``allowed`` maps the number of a step to the documents after it.
    """
    with Store.open(path) as reader:
        seen = read(reader.snapshot())
    with Store.open(path, write=True) as writer:
        if read(writer.snapshot()) != seen:
            raise Mixed("the writer sees something else than the reader")
        check_catalogue(writer)
        leftovers = [p for p in path.rglob(".tmp*")]
        if leftovers:
            raise Mixed(f"{leftovers} was not swept up")
    number, documents = seen
    if documents not in allowed:
        raise Mixed(f"it has reached step {number} and holds {documents}, allowed {allowed}")
    return number
