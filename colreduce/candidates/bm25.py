"""BM25 over the documents' texts."""

from __future__ import annotations

import dataclasses
import hashlib
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
    Side,
    go_on,
)
from colreduce.candidates.postings import Entries, Postings, PostingsBuilder, merge_postings
from colreduce.candidates.texts import document_texts, query_texts
from colreduce.errors import MissingDependency
from colreduce.method import State, parameter


@dataclass(frozen=True, kw_only=True)
class Bm25(FirstStage):
    """Rank documents by the words they share with the query, rare words first.

    Needs the texts of documents and queries. Word counts are stored, not scores: how rare a word
    is and how long a document should be are taken over all segments of the index at the time of
    the search, so that scores are those of one index over everything.
    """

    name = "bm25"
    paper = "Robertson and Zaragoza 2009, in the form that Lucene uses; words cut by bm25s"
    when = "Wherever there is text: alone or fused, the floor that every first stage must beat."
    k1: float = parameter(1.5, "how soon repeating a word stops counting", low=0)
    b: float = parameter(0.75, "how much long documents are held back", low=0, high=1)
    stopwords: str = parameter("english", "words left out", choices=("english", "none"))

    def fit(self, sample: Documents, *, seed: int) -> State:
        """Learn nothing, but find out now if something is missing."""
        _words(document_texts(self.name, sample.texts[:1]), self.stopwords)
        return {}

    def builder(self, state: State) -> Builder:
        """Start a segment."""
        return _Builder(self)

    def open(self, parts: Parts, state: State) -> Searcher:
        """Map the lists."""
        postings = Postings(parts)
        return Bm25Searcher(self, postings, (postings,))

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Part]:
        """Merge the lists."""
        return merge_postings(segments)

    def assemble(self, searchers: Sequence[Searcher], before: Sequence[Side] = ()) -> list[Side]:
        """Let every segment count words over all of them."""
        ours = [searcher for searcher in searchers if isinstance(searcher, Bm25Searcher)]
        everywhere = tuple(searcher.postings for searcher in ours)
        aware = [dataclasses.replace(searcher, everywhere=everywhere) for searcher in ours]
        return [Side((searcher,), searcher) for searcher in aware]


def _words(texts: Sequence[str], stopwords: str) -> tuple[list[list[int]], list[str]]:
    """Cut texts into words: the numbers of each text's words, and the words."""
    try:
        import bm25s
    except ImportError as error:
        raise MissingDependency(
            "bm25 cuts texts into words with bm25s, which is not installed. "
            "Run: pip install 'colreduce[bm25]'"
        ) from error
    cut = bm25s.tokenize(
        list(texts), stopwords="en" if stopwords == "english" else [], show_progress=False
    )
    return cut.ids, sorted(cut.vocab, key=cut.vocab.__getitem__)


def _numbers(words: Sequence[str]) -> NDArray[np.uint64]:
    """Return a 64-bit number for every word, the same in every segment."""
    digests = [hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


@dataclass(frozen=True)
class _Builder:
    method: Bm25
    postings: PostingsBuilder = dataclasses.field(default_factory=PostingsBuilder)

    def add(self, documents: Documents) -> Mapping[str, NDArray[Any]]:
        """Count each document's words."""
        texts = document_texts(self.method.name, documents.texts)
        ids, words = _words(texts, self.method.stopwords)
        lengths = np.array([len(one) for one in ids])
        rows = np.repeat(np.arange(len(texts)), lengths)
        every = np.array([word for one in ids for word in one], dtype=np.int64)
        pairs, counts = np.unique(rows * max(len(words), 1) + every, return_counts=True)
        numbers = _numbers(words)
        entries = Entries(
            pairs // max(len(words), 1),
            numbers[pairs % max(len(words), 1)] if len(pairs) else numbers[:0],
            counts.astype(np.float32),
        )
        self.postings.add(entries, len(texts))
        return {}

    def finish(self) -> Mapping[str, Part]:
        """Return the lists."""
        return self.postings.finish()


@dataclass(frozen=True)
class _Terms:
    """The words of one query, with what each of them counts, and the average document."""

    terms: NDArray[np.uint64]
    rarity: NDArray[Any]
    length: float


@dataclass(frozen=True)
class Bm25Searcher(Searcher):
    """One segment's lists, and those of the whole view to count over."""

    method: Bm25
    postings: Postings
    everywhere: tuple[Postings, ...]

    def prepare(self, query: Query) -> _Terms:
        """Count the query's words over the whole view."""
        [one], words = _words(query_texts(self.method.name, [query]), self.method.stopwords)
        numbers = _numbers(words)[np.array(one, dtype=np.int64)]
        terms, times = np.unique(numbers, return_counts=True)
        documents = sum(postings.documents for postings in self.everywhere)
        length = sum(postings.length for postings in self.everywhere)
        holding = sum(
            (postings.counts(terms) for postings in self.everywhere), np.zeros(len(terms))
        )
        rarity = times * np.log(1 + (documents - holding + 0.5) / (holding + 0.5))
        return _Terms(terms, rarity, max(length / max(documents, 1), 1e-9))

    def answer(
        self,
        prepared: _Terms,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Score the documents that hold a word of the query."""
        which, rows, counts = self.postings.entries(prepared.terms)
        share = self.postings.totals[rows] / prepared.length
        damped = counts + self.method.k1 * (1 - self.method.b + self.method.b * share)
        return self.postings.ranked(rows, prepared.rarity[which] * counts / damped, k, allowed)
