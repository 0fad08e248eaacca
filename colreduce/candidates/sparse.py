"""Learned sparse vectors (SPLADE and its kin) over the documents' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
)
from colreduce.candidates.models import load_model
from colreduce.candidates.postings import Entries, Postings, PostingsBuilder, merge_postings
from colreduce.candidates.texts import document_texts, query_texts
from colreduce.method import State, parameter

# Texts encoded at a time.
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Sparse(FirstStage):
    """Rank documents by the product of learned word weights.

    A sentence-transformers SparseEncoder gives each text weights for the words of its vocabulary,
    also for words that are not in the text. Needs the texts of documents and queries.
    """

    name = "sparse"
    paper = "SPLADE: Formal et al. 2021, arXiv 2107.05720"
    when = "Text where words matter and a trained sparse encoder of the domain is at hand."
    model: str = parameter(
        "naver/splade-cocondenser-ensembledistil", "folder or hub id of a SparseEncoder"
    )
    most: int = parameter(256, "largest weights kept of a document", low=1)

    def builder(self, state: State) -> Builder:
        """Start a segment."""
        return _Builder(self)

    def open(self, parts: Parts, state: State) -> Searcher:
        """Map the lists."""
        return _Searcher(self, Postings(parts))

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Part]:
        """Merge the lists."""
        return merge_postings(segments)

    def encode(self, texts: Sequence[str], *, queries: bool) -> Entries:
        """Return the weights of each text's words; rows are the texts' places."""
        model = load_model("SparseEncoder", self.model)
        rows, terms, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
        for start in range(0, len(texts), BATCH):
            some = list(texts[start : start + BATCH])
            encode = model.encode_query if queries else model.encode_document
            given = {} if queries else {"max_active_dims": self.most}
            sparse = encode(some, show_progress_bar=False, **given).cpu().coalesce()
            rows.append(sparse.indices()[0].numpy() + start)
            terms.append(sparse.indices()[1].numpy())
            weights.append(sparse.values().float().numpy())
        joined = np.concatenate([np.empty(0, np.float32), *weights])
        return Entries(np.concatenate(rows), np.concatenate(terms).astype(np.uint64), joined)


@dataclass(frozen=True)
class _Builder:
    method: Sparse
    postings: PostingsBuilder = field(default_factory=PostingsBuilder)

    def add(self, documents: Documents) -> Mapping[str, NDArray[Any]]:
        """Encode the texts."""
        texts = document_texts(self.method.name, documents.texts)
        self.postings.add(self.method.encode(texts, queries=False), len(texts))
        return {}

    def finish(self) -> Mapping[str, Part]:
        """Return the lists."""
        return self.postings.finish()


@dataclass(frozen=True)
class _Searcher(Searcher):
    method: Sparse
    postings: Postings

    def prepare(self, query: Query) -> Entries:
        """Encode the query's text."""
        return self.method.encode(query_texts(self.method.name, [query]), queries=True)

    def answer(
        self,
        prepared: Entries,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Multiply the query's weights with those of the documents that share a word."""
        which, rows, weights = self.postings.entries(prepared.terms)
        gains = prepared.weights[which].astype(np.float64) * weights
        return self.postings.ranked(rows, gains, k, allowed)
