"""No first stage: every document is a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Builder, Documents, FirstStage, Found, Part, Query, Searcher
from colreduce.method import State


@dataclass(frozen=True, kw_only=True)
class Exhaustive(FirstStage):
    """Pass every document on to the reranker. Nothing is lost, and nothing is saved."""

    name = "exhaustive"
    when = "Up to some ten thousand documents, or to judge the other first stages."

    def builder(self, state: State) -> Builder:
        """Store nothing."""
        return _Nothing()

    def open(
        self,
        arrays: Mapping[str, NDArray[Any]],
        files: Mapping[str, Path],
        state: State,
        documents: int,
    ) -> Searcher:
        """Remember how many documents there are."""
        return _Everything(documents)


class _Nothing:
    def add(self, documents: Documents) -> None:
        """Take no notice."""

    def finish(self) -> Mapping[str, Part]:
        """Return no files."""
        return {}


@dataclass(frozen=True)
class _Everything:
    documents: int

    def search(
        self, queries: Sequence[Query], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[Found]:
        """Return all rows that are allowed, whatever ``k``: leaving one out would not be exact."""
        rows = np.arange(self.documents, dtype=np.int64)
        if allowed is not None:
            rows = rows[allowed]
        return [Found(rows, np.zeros(len(rows), dtype=np.float32)) for _ in queries]
