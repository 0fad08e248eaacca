"""First stages, built over the whole corpus and asked by every query.

How many candidates a query needs depends on how many documents there are to choose from, so a
sample would flatter every first stage. One vector for each document is little work: all of them
are built in one pass, and a list of candidates serves every recipe behind the same projection.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.candidates.base import (
    Builder,
    Documents,
    FirstStage,
    Found,
    Fusion,
    Part,
    Parts,
    Query,
    Searcher,
)
from colreduce.candidates.vectors.indexed import SMALL
from colreduce.evaluate.progress import Progress
from colreduce.evaluate.sample import SAMPLE, reservoir
from colreduce.index.auto import COUNTS
from colreduce.method import State
from colreduce.pipeline import Pipeline
from colreduce.plan.exact import BLOCK_TOKENS
from colreduce.plan.task import Task, texts_of
from colreduce.recipe import Recipe

EXHAUSTIVE = "exhaustive"

# With more documents, scoring every one of them for every query is no longer a choice.
EXHAUSTIVE_MOST = 10_000

PLAIN = ('mean(store="fp16")', 'mean(store="sq8")')
# Stores that keep plain rows while a segment is small.
INDEXED = (
    'mean(store="pq")',
    'fde(bits=3, inner_dim=8, store="pq4")',
    'fde(store="pq4")',
)
# What reads text: by itself and beside vectors.
WORDS = ("bm25",)
TOGETHER = (('mean(store="sq8")', "bm25"), ('mean(store="pq")', "bm25"))
FUSION = "rrf"

# Numbers of candidates at which first stages are compared.
CANDIDATES = (100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class Finder:
    """A first stage with its answers.

    name     as a recipe line writes it
    lists    of every method in it the candidates of every query, best first; none when all
             documents are candidates
    """

    name: str
    bytes_per_doc: float
    milliseconds: float
    lists: Sequence[Sequence[Found]] = ()
    fusion: Fusion | None = None

    def rows(self, query: int, count: int) -> NDArray[np.int64]:
        """Return the first so many candidates of a query, best first."""
        found = [Found(one[query].rows[:count], one[query].scores[:count]) for one in self.lists]
        return found[0].rows if self.fusion is None else self.fusion.fuse(found, count).rows

    def recall(self, best: NDArray[np.int64], count: int) -> float:
        """Return the share of the best rows [queries, m] among the first so many candidates."""
        shares = [np.isin(some, self.rows(n, count)).mean() for n, some in enumerate(best)]
        return float(np.mean(shares))


def make_finders(task: Task, prepare: str, seed: int, progress: Progress) -> list[Finder]:
    """Build the first stages that are tried behind one projection, and ask them everything."""
    count = len(task.documents)
    indexed = INDEXED if count >= SMALL else ()
    reads = task.reads_text and find_spec("bm25s") is not None
    names = [*PLAIN, *indexed, *(WORDS if reads else ())]
    recipe = Recipe(Recipe.parse(prepare).methods[:1]) if prepare else Recipe(())
    rows = reservoir(range(count), SAMPLE, seed)
    sample = task.documents.take(rows)
    pipeline = Pipeline.fit(recipe, sample, seed=seed)
    tokens = pipeline.transform(sample)
    texts = texts_of(task.corpus, rows) or [None] * len(sample)
    growing = [_Growing(name, Documents(tokens, tokens, texts), seed) for name in names]
    what = f"first stage behind {prepare}" if prepare else "first stage"
    told = _all_texts(task)
    for start, block in task.documents.blocks(BLOCK_TOKENS):
        progress(what, start, count)
        tokens = pipeline.transform(block)
        some = Documents(tokens, tokens, [next(told) for _ in range(len(block))])
        for one in growing:
            one.add(some)
    progress(what, count, count)
    asked = [
        Query(pipeline.query(vectors), text)
        for vectors, text in zip(task.queries.unpack(), task.query_texts, strict=True)
    ]
    made = [one.finish(asked, task.hidden, count) for one in growing]
    every = [Finder(EXHAUSTIVE, 0.0, 0.0)] if count <= EXHAUSTIVE_MOST else []
    return [*every, *made, *_together(made)]


def worth_trying(finders: Sequence[Finder], best: NDArray[np.int64]) -> list[Finder]:
    """Leave out every first stage that another one beats in bytes and at finding the best rows.

    A stage that is quicker by far stays, and so does looking at all documents.
    """
    recalls = {
        one.name: [one.recall(best, count) for count in CANDIDATES] for one in finders if one.lists
    }

    def beaten(one: Finder) -> bool:
        mine = recalls[one.name]
        return any(
            other.bytes_per_doc <= one.bytes_per_doc
            and other.milliseconds <= 2 * one.milliseconds + 1
            and all(a >= b for a, b in zip(recalls[other.name], mine, strict=True))
            and (recalls[other.name] != mine or other.bytes_per_doc < one.bytes_per_doc)
            for other in finders
            if other.lists and other is not one
        )

    return [one for one in finders if not one.lists or not beaten(one)]


def _together(made: Sequence[Finder]) -> Iterator[Finder]:
    """Yield first stages that join the lists of two others."""
    known = {one.name: one for one in made}
    fusion = Recipe.parse(f"mean | bm25 | {FUSION}").fusion
    for names in TOGETHER:
        if all(name in known for name in names):
            parts = [known[name] for name in names]
            yield Finder(
                " | ".join([*names, FUSION]),
                sum(one.bytes_per_doc for one in parts),
                sum(one.milliseconds for one in parts),
                [one.lists[0] for one in parts],
                fusion,
            )


def _all_texts(task: Task) -> Iterator[str | None]:
    """Yield the text of every document, or None where there are only vectors."""
    if task.corpus.records is None:
        yield from [None] * len(task.documents)
    else:
        yield from (record.text for record in task.corpus.records())


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
        [side] = self._method.assemble(
            [self._method.open(Parts(arrays, files, documents), self._state)]
        )
        found, milliseconds = _answers(side.together, asked, hidden, min(COUNTS[-1], documents))
        return Finder(self._name, size / documents, milliseconds, [found])


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
) -> tuple[list[Found], float]:
    found, times = [], []
    for query, row in zip(asked, hidden, strict=True):
        started = perf_counter()
        [one] = searcher.search([query], depth)
        times.append(perf_counter() - started)
        seen = one.rows != row
        found.append(Found(one.rows[seen], one.scores[seen]))
    return found, float(np.median(times)) * 1000
