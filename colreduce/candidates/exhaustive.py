"""No first stage: every document is a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import (
    Builder,
    Check,
    Documents,
    FirstStage,
    Found,
    Part,
    Parts,
    Query,
    Searcher,
    go_on,
    wanted_rows,
)
from colreduce.method import State


@dataclass(frozen=True, kw_only=True)
class Exhaustive(FirstStage):
    """Pass every document on to the reranker. Nothing is lost, and nothing is saved."""

    name = "exhaustive"
    when = "Up to some ten thousand documents, or to judge the other first stages."

    def builder(self, state: State) -> Builder:
        """Store nothing."""
        return _Nothing()

    def open(self, parts: Parts, state: State) -> Searcher:
        """Remember how many documents there are."""
        return _Everything(parts.documents)

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Part]:
        """Store nothing."""
        return {}


class _Nothing:
    def add(self, documents: Documents) -> Mapping[str, NDArray[Any]]:
        """Take no notice."""
        return {}

    def finish(self) -> Mapping[str, Part]:
        """Return no files."""
        return {}


@dataclass(frozen=True)
class _Everything(Searcher):
    documents: int

    def prepare(self, query: Query) -> None:
        """Look at nothing."""

    def answer(
        self,
        prepared: None,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Return all rows that are allowed, whatever ``k``: leaving one out would not be exact."""
        rows = wanted_rows(self.documents, allowed)
        return Found(rows, np.zeros(len(rows), dtype=np.float32))
