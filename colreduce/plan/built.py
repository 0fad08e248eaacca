"""Indexes that are really built: what an estimate comes down to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.evaluate.build import build_index
from colreduce.evaluate.progress import Progress
from colreduce.index import Index
from colreduce.index.search import Asked
from colreduce.plan.measure import TOP, Measure
from colreduce.plan.task import NONE, Task
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

# Documents whose ids and metadata stand for those of all.
CATALOGUED = 10_000

# What an index of nothing but ids is made with.
NOTHING = "fp16 | exhaustive"


@dataclass(frozen=True, slots=True)
class Built:
    """What a real index of the whole corpus costs and is worth.

    values     [held-back queries] of the metric
    agreement  share of exact search's best ten
    """

    values: NDArray[np.float64]
    agreement: float
    bytes_per_doc: dict[str, float]
    milliseconds: float
    build_seconds: float

    @property
    def total(self) -> float:
        """Return all bytes that a search needs, for each document."""
        return self.bytes_per_doc["total"]


def build(
    task: Task,
    recipe: Recipe,
    measure: Measure,
    queries: NDArray[np.int64],
    seed: int,
    progress: Progress,
) -> Built:
    """Build an index in a temporary folder, and ask it the queries as a user would."""
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="colreduce-") as folder:
        index, _ = build_index(
            Path(folder) / "index",
            task.corpus,
            recipe,
            encoder=task.encoder,
            seed=seed,
            progress=progress,
        )
        took = perf_counter() - started
        with index:
            size = index.describe()["bytes_per_doc"]
            rankings, milliseconds = _asked(index, task, queries, measure.depth, progress)
    kept = ("vectors", "first_stage", "catalogue", "models", "total")
    return Built(
        measure.values(rankings, queries),
        float(measure.agreement(rankings, queries).mean()),
        {name: float(size[name]) for name in kept},
        milliseconds,
        took,
    )


def _asked(
    index: Index, task: Task, queries: NDArray[np.int64], depth: int, progress: Progress
) -> tuple[list[NDArray[np.int64]], float]:
    """Return the rows that the index answers, and the median time of a search for ten hits."""
    rows = {name: row for row, name in enumerate(task.corpus.ids)}
    some = task.take(queries)
    rankings, times = [], []
    triples = zip(some.queries.unpack(), some.query_texts, some.hidden.tolist(), strict=True)
    for number, (vectors, text, hidden) in enumerate(triples):
        progress("search", number, len(some))
        extra = 0 if hidden == NONE else 1
        asked = Asked(index.pipeline.asked(vectors, text), depth + extra, index.candidates)
        if depth > TOP:
            started = perf_counter()
            index.view.search(Asked(asked.query, TOP, asked.candidates))
            times.append(perf_counter() - started)
        started = perf_counter()
        hits = index.view.search(asked)
        if depth <= TOP:
            times.append(perf_counter() - started)
        found = np.array([rows[hit.id] for hit in hits], dtype=np.int64)
        rankings.append(found[found != hidden][:depth])
    progress("search", len(some), len(some))
    return rankings, float(np.median(times)) * 1000


def catalogue_bytes(task: Task) -> float:
    """Return what ids and metadata take of an index, in bytes for each document.

    An index of vectors of a single number is built for it.
    """
    ids = task.corpus.ids[:CATALOGUED]
    told: list[dict[str, Any]] | None = None
    if task.corpus.records is not None:
        told = [record.metadata for record in islice(task.corpus.records(), len(ids))]
    one = Ragged(torch.ones(len(ids), 1), torch.ones(len(ids), dtype=torch.int64))
    with tempfile.TemporaryDirectory(prefix="colreduce-") as folder:
        recipe = Recipe.parse(NOTHING)
        with Index.create(Path(folder) / "index", recipe=recipe, dim=1) as index:
            with index.batch() as batch:
                batch.add(ids, embeddings=one, metadata=told)
            size: Callable[[str], float] = index.describe()["bytes_per_doc"].__getitem__
            return size("catalogue")
