"""One shard, opened for reading, and the questions that it answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from colreduce.errors import BadInput, ColreduceError, DeadlineExceeded
from colreduce.index import Document, Hit, Index
from colreduce.index.explain import explain
from colreduce.results import Explanation

# Seconds by which the clocks of two machines may differ.
CLOCKS = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """One query as it travels to the shards.

    vectors  encoded already  [q, d] float32
    text     what they were encoded from, for first stages that look at words
    """

    vectors: NDArray[Any]
    text: str | None
    k: int
    candidates: int | None = None
    exact: bool = False
    filter: Mapping[str, Any] | str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What one shard has found for every question, all on one generation.

    seconds  by stage, for all questions together
    scored   how many documents were scored exactly for each question, at most
    """

    hits: Sequence[Sequence[Hit]]
    generation: int
    seconds: Mapping[str, float]
    scored: Sequence[int]


@dataclass(frozen=True, slots=True)
class Size:
    """How far a shard is, and what it holds."""

    generation: int
    documents: int


class Replica:
    """Answers for one shard.

    What goes wrong in our own words is returned and not raised, so that it travels whole; what is
    raised means that the replica itself has failed.
    """

    def __init__(self, folder: str, threads_each: int = 0) -> None:
        """``threads_each`` is how many a query may compute in; 0 leaves that as it is."""
        if threads_each:
            torch.set_num_threads(threads_each)
        self._folder = Path(folder)
        self._opening = threading.Lock()
        self._index: Index | None = None

    def answer(
        self, questions: Sequence[Question], seconds: float, until: float
    ) -> Reply | ColreduceError:
        """Search for every question; nobody waits any more when the seconds are over.

        until  when that is by the clock, for what has waited here since; clocks may differ a little
        """
        end = time.monotonic() + seconds
        if time.time() > until + CLOCKS:
            return DeadlineExceeded("the time for this request was up before a shard began")

        def check() -> None:
            if time.monotonic() >= end:
                raise DeadlineExceeded("the time for this request was up before a shard had done")

        try:
            return self._answer(questions, check)
        except ColreduceError as problem:
            return problem

    def get(self, ids: Sequence[str], pictures: bool = False) -> list[Document] | ColreduceError:
        """Return stored documents."""
        try:
            return self._opened().get(ids, pictures=pictures)
        except ColreduceError as problem:
            return problem

    def explain(self, vectors: NDArray[Any], one: str) -> Explanation | ColreduceError:
        """Say why a document has its score for the vectors of a query."""
        try:
            return explain(_Textless(self._opened()), torch.from_numpy(vectors.copy()), one)
        except ColreduceError as problem:
            return problem

    def describe(self) -> dict[str, Any] | ColreduceError:
        """Return what the shard holds."""
        try:
            return self._opened().describe()
        except ColreduceError as problem:
            return problem

    def refresh(self) -> Size | ColreduceError:
        """Take over a newer generation, while others still search the old one."""
        try:
            index = self._opened()
            return Size(index.refresh(), len(index))
        except ColreduceError as problem:
            return problem

    def process(self) -> int:
        """Return the number of the process that it is in."""
        return os.getpid()

    def close(self) -> None:
        """Let go of the files."""
        if self._index is not None:
            self._index.close()

    def _opened(self) -> Index:
        """Open the shard the first time; one that could not be opened is tried again."""
        with self._opening:
            if self._index is None:
                self._index = Index.open(self._folder, verify="sizes")
            return self._index

    def _answer(self, questions: Sequence[Question], check: Any) -> Reply:
        index = self._opened()
        view = index.view
        hits, scored, seconds = [], [], dict[str, float]()
        for one in questions:
            vectors = torch.from_numpy(one.vectors.copy())
            [asked] = index.ask(
                [vectors if one.text is None else one.text],
                one.k,
                candidates=one.candidates,
                exact=one.exact,
                filter=one.filter,
                encode=partial(_known, vectors),
                check=check,
            )
            check()
            hits.append(view.search(asked))
            count = view.snapshot.count
            scored.append(count if one.exact else min(asked.candidates, count))
            for stage, spent in asked.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
        return Reply(hits, view.snapshot.generation, seconds, scored)


def _known(vectors: torch.Tensor, texts: Sequence[str]) -> list[torch.Tensor]:
    """Stand for the model: the one text among a question's was encoded by the server."""
    return [vectors for _ in texts]


class _Textless:
    """A shard as an explanation takes it: the model is where the server is, and not here."""

    def __init__(self, index: Index) -> None:
        self.dim = index.dim
        self.view = index.view

    @property
    def encoder(self) -> Any:
        """Say that there is none."""
        raise BadInput("a shard has no model: its documents are explained by what is stored")
