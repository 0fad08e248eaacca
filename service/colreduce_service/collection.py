"""One index kept open: searched by many threads, followed as it changes on disk."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from colreduce.errors import BadInput, ColreduceError, Damaged
from colreduce.index import Document, Hit, Index

log = logging.getLogger(__name__)

# To find damage, all of an index is read. One that is damaged is not read again every second.
DAMAGED_SECONDS = 30.0

# One text is encoded at a time: tokenizers are not made for several threads at once, and a model
# uses all the cores that it may use already.
ENCODING = threading.Lock()


class Collection:
    """An index under the name that requests use. One that cannot be opened says why when asked."""

    def __init__(self, name: str, path: Path, lend: Callable[[Index], None]) -> None:
        """Open the index; ``lend`` gives it an encoder, or raises why it has none."""
        self.name = name
        self.path = path
        self._lend = lend
        self._index: Index | None = None
        self._folder: tuple[int, int] | None = None
        self._closed: ColreduceError | None = None  # why it cannot be searched
        self._textless: ColreduceError | None = None  # why it cannot be searched with text
        self._stale: ColreduceError | None = None  # why it shows an older generation
        self._not_before = 0.0  # when to look at the disk again
        try:
            self._open()
        except (ColreduceError, OSError) as error:
            self._closed = _ours(error)

    @property
    def ready(self) -> bool:
        """Say whether it can be searched."""
        return self._index is not None

    @property
    def problem(self) -> ColreduceError | None:
        """Return what is wrong with it."""
        return self._closed or self._stale

    @property
    def text_problem(self) -> ColreduceError | None:
        """Return why queries may not be text."""
        return self._closed or self._textless

    @property
    def index(self) -> Index:
        """Return the index, or raise why there is none."""
        if self._index is None:
            assert self._closed is not None
            raise copy.copy(self._closed)
        return self._index

    def require_text(self, field: str) -> None:
        """Raise why queries may not be text, if so; ``field`` is where the text stands."""
        if self._textless is not None:
            problem = copy.copy(self._textless)
            if isinstance(problem, BadInput):
                problem.field = field
            raise problem

    def search(
        self,
        queries: Sequence[Any],
        k: int,
        *,
        candidates: int | None,
        exact: bool,
        filter: Mapping[str, Any] | str | None,
        check: Callable[[], None],
        charge: Callable[[float], None],
    ) -> tuple[int, list[list[Hit]]]:
        """Answer queries, all on one generation; return its number and a list of hits for each.

        check   is called between steps and raises when nobody waits for the answer any more
        charge  is told what the search costs: query vectors times documents that are scored
        """
        index = self.index
        view = index.view
        with ENCODING if any(isinstance(query, str) for query in queries) else nullcontext():
            check()
            asked = index.ask(
                queries, k, candidates=candidates, exact=exact, filter=filter, check=check
            )
        scored = [len(index) if exact else min(one.candidates, len(index)) for one in asked]
        charge(sum(len(one.query.vectors) * n for one, n in zip(asked, scored, strict=True)))
        found = []
        for one in asked:
            check()
            found.append(view.search(one))
        return view.snapshot.generation, found

    def get(self, ids: Sequence[str]) -> tuple[int, list[Document]]:
        """Return stored documents, and the generation that was read."""
        index = self.index
        return index.generation, index.get(ids)

    def describe(self) -> dict[str, Any]:
        """Return what the index holds, how it was built and what it costs."""
        return self.index.describe()

    def follow(self) -> None:
        """Take over a newer generation, or a new index put in the place of the old one.

        What cannot be taken over is logged once and said in `problem`; the old stays in use.
        """
        if time.monotonic() < self._not_before:
            return
        try:
            if self._index is None or _identity(self.path) != self._folder:
                self._open()
            else:
                before = self._index.generation
                if self._index.refresh() != before:
                    log.info("%s is at generation %d", self.name, self._index.generation)
            self._stale = None
        except (ColreduceError, OSError) as error:
            problem = _ours(error)
            if isinstance(problem, Damaged):
                self._not_before = time.monotonic() + DAMAGED_SECONDS
            known = self.problem
            if known is None or str(known) != str(problem):
                log.warning("%s cannot be read again: %s", self.name, problem)
            if self._index is None:
                self._closed = problem
            else:
                self._stale = problem

    def close(self) -> None:
        """Let go of the files."""
        if self._index is not None:
            self._index.close()

    def _open(self) -> None:
        folder = _identity(self.path)
        index = Index.open(self.path)
        self._textless = None
        try:
            self._lend(index)
        except ColreduceError as error:
            self._textless = error
        # The old index is not closed: requests may still be reading it. It goes when they have.
        self._index, self._folder, self._closed = index, folder, None


def _ours(error: Exception) -> ColreduceError:
    return error if isinstance(error, ColreduceError) else ColreduceError(str(error))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one put in its place; None when it is gone."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
