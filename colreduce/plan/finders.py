"""First stages, built over the whole corpus and asked by every query.

How many candidates a query needs depends on how many documents there are to choose from, so a
sample would flatter every first stage. One vector for each document is little work: all of them
are built in one pass, and a list of candidates serves every recipe behind the same projection.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.candidates.base import Builder, Documents, FirstStage, Part, Parts, Query, Searcher
from colreduce.candidates.vectors.indexed import SMALL
from colreduce.evaluate.progress import Progress
from colreduce.evaluate.sample import SAMPLE, reservoir
from colreduce.index.auto import COUNTS
from colreduce.method import State
from colreduce.pipeline import Pipeline
from colreduce.plan.exact import BLOCK_TOKENS
from colreduce.plan.task import Task
from colreduce.recipe import Recipe

EXHAUSTIVE = "exhaustive"

# With more documents, scoring every one of them for every query is no longer a choice.
EXHAUSTIVE_MOST = 10_000

PLAIN = ('mean(store="fp16")', 'mean(store="sq8")')
# Stores that keep plain rows while a segment is small.
INDEXED = ('mean(store="pq")',)


@dataclass(frozen=True, slots=True)
class Finder:
    """A first stage with its answers.

    found   [queries] rows of the candidates, best first; None when all documents are
    """

    name: str
    bytes_per_doc: float
    milliseconds: float
    found: Sequence[NDArray[np.int64]] | None


def make_finders(task: Task, prepare: str, seed: int, progress: Progress) -> list[Finder]:
    """Build the first stages that are tried behind one projection, and ask them everything."""
    count = len(task.documents)
    names = [*PLAIN, *(INDEXED if count >= SMALL else ())]
    recipe = Recipe(Recipe.parse(prepare).methods[:1]) if prepare else Recipe(())
    sample = task.documents.take(reservoir(range(count), SAMPLE, seed))
    pipeline = Pipeline.fit(recipe, sample, seed=seed)
    tokens = pipeline.transform(sample)
    growing = [
        _Growing(name, Documents(tokens, tokens, [None] * len(sample)), seed) for name in names
    ]
    what = f"first stage behind {prepare}" if prepare else "first stage"
    for start, block in task.documents.blocks(BLOCK_TOKENS):
        progress(what, start, count)
        tokens = pipeline.transform(block)
        for one in growing:
            one.add(Documents(tokens, tokens, [None] * len(block)))
    progress(what, count, count)
    asked = [
        Query(pipeline.query(vectors), text)
        for vectors, text in zip(task.queries.unpack(), task.query_texts, strict=True)
    ]
    made = [one.finish(asked, task.hidden, count) for one in growing]
    every = [Finder(EXHAUSTIVE, 0.0, 0.0, None)] if count <= EXHAUSTIVE_MOST else []
    return [*every, *made]


class _Growing:
    """One first stage while its documents come by."""

    def __init__(self, name: str, sample: Documents, seed: int) -> None:
        [method] = Recipe.parse(name).first_stages
        self._name = name
        self._method: FirstStage = method
        self._state: State = method.fit(sample, seed=seed)
        self._builder: Builder = method.builder(self._state)
        self._arrays: dict[str, list[NDArray[np.generic]]] = {}

    def add(self, documents: Documents) -> None:
        """Take in the next documents."""
        with torch.inference_mode():
            for name, rows in self._builder.add(documents).items():
                self._arrays.setdefault(name, []).append(rows)

    def finish(self, asked: Sequence[Query], hidden: NDArray[np.int64], documents: int) -> Finder:
        """Open what was built, and ask it every query by itself."""
        arrays = {name: np.concatenate(rows) for name, rows in self._arrays.items()}
        files: dict[str, NDArray[np.uint8]] = {}
        _sort(self._builder.finish(), arrays, files)
        size = sum(array.nbytes for array in [*arrays.values(), *files.values()])
        size += sum(tensor.numel() * tensor.element_size() for tensor in self._state.values())
        [searcher] = self._method.assemble(
            [self._method.open(Parts(arrays, files, documents), self._state)]
        )
        found, milliseconds = _answers(searcher, asked, hidden, min(COUNTS[-1], documents))
        return Finder(self._name, size / documents, milliseconds, found)


def _sort(
    parts: Mapping[str, Part],
    arrays: dict[str, NDArray[np.generic]],
    files: dict[str, NDArray[np.uint8]],
) -> None:
    for name, part in parts.items():
        if callable(part):
            stream = io.BytesIO()
            part(stream)
            files[name] = np.frombuffer(stream.getvalue(), np.uint8)
        else:
            arrays[name] = part


def _answers(
    searcher: Searcher, asked: Sequence[Query], hidden: NDArray[np.int64], depth: int
) -> tuple[list[NDArray[np.int64]], float]:
    found, times = [], []
    for query, row in zip(asked, hidden, strict=True):
        started = perf_counter()
        [one] = searcher.search([query], depth)
        times.append(perf_counter() - started)
        found.append(one.rows[one.rows != row])
    return found, float(np.median(times)) * 1000
