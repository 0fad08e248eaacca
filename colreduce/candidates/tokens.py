"""Single tokens as a first stage: lists of documents by the centroid their tokens are near."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
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
    best,
    go_on,
)
from colreduce.candidates.centroids import nearest, spherical_centroids
from colreduce.errors import ShapeMismatch
from colreduce.maxsim import segment_max
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

LIST_ROWS, LIST_ENDS, CODES, CODE_ENDS = "list_rows", "list_ends", "codes", "code_ends"

# Tokens of the sample per centroid that k-means looks at.
PER_CENTROID = 64

# Documents whose centroids are gathered, for each document that is asked for.
GATHERED = 4


@dataclass(frozen=True, kw_only=True)
class Tokens(FirstStage):
    """Look up the documents whose tokens lie near the query's tokens.

    Every token is filed under its nearest centroid. A query token visits the lists of the
    centroids it is nearest to; a document that none of them holds gets, for that token, the
    similarity at which the visited lists were long enough (imputed). ``interaction`` goes on to
    gather the best candidates' centroids and takes the sum of best centroids instead.
    """

    name = "tokens"
    paper = "PLAID, arXiv 2205.09707; XTR, arXiv 2304.01982; WARP, arXiv 2501.17788"
    when = "Queries whose single words matter, where one vector per document finds too little."
    centroids: int | None = parameter(
        None, "centroids; none takes 16 times the root of the sample's tokens", low=1, high=1 << 20
    )
    probes: int = parameter(32, "lists that a query token visits at most", low=1)
    reach: int | None = parameter(
        None, "documents after which a list's similarity is imputed; none takes a root", low=1
    )
    score: str = parameter(
        "imputed", "how candidates are ranked", choices=("imputed", "interaction")
    )
    on: str = parameter(
        "tokens",
        "which vectors are filed: all tokens or the reduced",
        choices=("tokens", "reduced"),
    )

    def fit(self, sample: Documents, *, seed: int) -> State:
        """Place the centroids."""
        tokens = self._of(sample).tokens.float()
        count = self.centroids or 1 << max(int(np.log2(16 * max(len(tokens), 1) ** 0.5)), 0)
        count = min(count, max(len(tokens) // 2, 1))
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(tokens), generator=generator)[: count * PER_CENTROID]
        placed = spherical_centroids(tokens[drawn.to(tokens.device)], count, seed=seed)
        return {"centroids": placed.cpu()}

    def builder(self, state: State) -> Builder:
        """Start a segment."""
        return _Builder(self, state)

    def open(self, parts: Parts, state: State) -> Searcher:
        """Map the lists."""
        lists = Lists(parts, len(state["centroids"]))
        return TokensSearcher(self, state["centroids"], lists, lists.sizes)

    def merge(
        self, segments: Sequence[tuple[Parts, NDArray[np.int64]]], state: State
    ) -> Mapping[str, Part]:
        """Merge the lists."""
        builder = _Builder(self, state)
        for parts, rows in segments:
            place = np.full(parts.documents, -1, dtype=np.int64)
            place[rows] = np.arange(len(rows))
            files, codes = Lists(parts, len(state["centroids"])).pairs()
            kept = place[files] >= 0
            builder.take(place[files[kept]], codes[kept], len(rows))
        return builder.finish()

    def assemble(self, searchers: Sequence[Searcher], before: Sequence[Side] = ()) -> list[Side]:
        """Let every segment impute what the lists of all segments together say."""
        ours = [searcher for searcher in searchers if isinstance(searcher, TokensSearcher)]
        known = [one.together for one in before if isinstance(one.together, TokensSearcher)]
        sizes = known[0].sizes if known else np.zeros(1, np.int64)
        now, then = {one.lists for one in ours}, {one.lists for one in known}
        for lists in now - then:
            sizes = sizes + lists.sizes
        for lists in then - now:
            sizes = sizes - lists.sizes
        aware = [dataclasses.replace(searcher, sizes=sizes) for searcher in ours]
        return [Side((searcher,), searcher) for searcher in aware]

    def _of(self, documents: Documents) -> Ragged:
        return documents.tokens if self.on == "tokens" else documents.reduced


@dataclass
class _Builder:
    method: Tokens
    state: State
    rows: list[NDArray[np.int32]] = field(default_factory=list)
    codes: list[NDArray[np.int32]] = field(default_factory=list)
    documents: int = 0

    def add(self, documents: Documents) -> Mapping[str, NDArray[Any]]:
        """File each document's tokens; a document stands in a list once."""
        batch = self.method._of(documents)
        centroids = self.state["centroids"].to(batch.device)
        if batch.dim != centroids.shape[1]:
            raise ShapeMismatch(
                f"these vectors are {batch.dim} wide; the first stage takes {centroids.shape[1]}"
            )
        owner = nearest(batch.tokens.float(), centroids)
        pairs = torch.unique(batch.item_of * len(centroids) + owner).cpu().numpy()
        rows, codes = np.divmod(pairs, len(centroids))
        self.take(rows, codes, len(batch))
        return {}

    def take(self, rows: NDArray[np.int64], codes: NDArray[np.int64], documents: int) -> None:
        """Take in (row, centroid) pairs of the next ``documents`` documents, rows from 0."""
        self.rows.append((rows + self.documents).astype(np.int32))
        self.codes.append(codes.astype(np.int32))
        self.documents += documents

    def finish(self) -> Mapping[str, Part]:
        """Return the lists, and with ``interaction`` each document's centroids as well."""
        if not self.documents:
            return {}
        rows, codes = np.concatenate(self.rows), np.concatenate(self.codes)
        count = len(self.state["centroids"])
        order = np.lexsort((rows, codes))
        ends = np.cumsum(np.bincount(codes, minlength=count)).astype(np.int64)
        parts: dict[str, Part] = {LIST_ROWS: rows[order], LIST_ENDS: ends}
        if self.method.score == "interaction":
            by_row = np.lexsort((codes, rows))
            narrow = np.uint16 if count <= 1 << 16 else np.int32
            parts[CODES] = codes[by_row].astype(narrow)
            parts[CODE_ENDS] = np.cumsum(np.bincount(rows, minlength=self.documents))
        return parts


class Lists:
    """The lists of one segment, memory-mapped."""

    def __init__(self, parts: Parts, count: int) -> None:
        self.documents = parts.documents
        self._rows = parts.arrays.get(LIST_ROWS, np.zeros(0, np.int32))
        ends = np.asarray(parts.arrays.get(LIST_ENDS, np.zeros(count, np.int64)))
        self.sizes = np.diff(ends, prepend=0)
        self._starts = ends - self.sizes
        self._codes = parts.arrays.get(CODES)
        self._code_ends = parts.arrays.get(CODE_ENDS)

    def entries(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lists of some centroids end to end: place among ``codes``, row."""
        lengths = self.sizes[codes]
        which = np.repeat(np.arange(len(codes)), lengths)
        inside = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return which, self._rows[self._starts[codes][which] + inside].astype(np.int64)

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return every (row, centroid) pair."""
        codes = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return self._rows.astype(np.int64), codes

    def gathered(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the centroids of some documents end to end, and how many each has."""
        if self._codes is None or self._code_ends is None:
            return np.zeros(0, np.int64), np.zeros(len(rows), np.int64)
        ends = self._code_ends[rows]
        starts = np.where(rows > 0, self._code_ends[rows - 1], 0)
        lengths = ends - starts
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self._codes[np.repeat(starts, lengths) + inside].astype(np.int64), lengths


@dataclass(frozen=True)
class TokensSearcher(Searcher):
    """One segment's lists, with the sizes that the lists have over the whole view."""

    method: Tokens
    centroids: torch.Tensor
    lists: Lists
    sizes: NDArray[np.int64]

    def prepare(self, query: Query) -> torch.Tensor:
        """Compare the query's tokens with the centroids."""
        vectors = query.vectors.float()
        if vectors.shape[1] != self.centroids.shape[1]:
            raise ShapeMismatch(
                f"these vectors are {vectors.shape[1]} wide; "
                f"the first stage takes {self.centroids.shape[1]}"
            )
        return vectors.cpu() @ self.centroids.T

    def answer(
        self,
        prepared: torch.Tensor,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        check: Check = go_on,
    ) -> Found:
        """Visit the lists of the query's tokens."""
        similar = prepared
        there = self.lists.documents if allowed is None else int(allowed.sum())
        gathers = self.method.score == "interaction"
        wanted = min(k * GATHERED if gathers else k, there)
        probes = self.method.probes
        reach = self.method.reach or int((8 * self.sizes.sum()) ** 0.5) + 1
        while True:
            check()
            found = self._imputed(similar, probes, reach, wanted, allowed)
            if len(found.rows) >= min(k, there) or probes >= len(self.sizes):
                break
            probes, reach = 4 * probes, 4 * reach
        check()
        return self._interacted(similar, found, k) if gathers else found

    def _imputed(
        self,
        similar: torch.Tensor,
        probes: int,
        reach: int,
        k: int,
        allowed: NDArray[np.bool_] | None,
    ) -> Found:
        """Rank documents by what the visited lists tell; the others are not returned.

        A query token's similarity to a list is worth what it is above the imputed one: that is
        what a document gets in any case.
        """
        count = len(self.sizes)
        # Lists are looked through in order of similarity until they reach far enough.
        near, order = (part.numpy() for part in similar.topk(min(count, max(probes, 512)), dim=1))
        far = np.cumsum(self.sizes[order], axis=1) >= reach
        last = np.where(far.any(1), far.argmax(1), order.shape[1] - 1)
        # With every list visited there is nothing left to impute.
        imputed = near[np.arange(len(near)), last] if probes < count else near.min(1) - 1
        probed = order[:, :probes]
        worth = near[:, :probes] - imputed[:, None]
        tokens, places = np.nonzero(worth > 0)
        which, rows = self.lists.entries(probed[tokens, places])
        if allowed is not None:
            keep = allowed[rows]
            which, rows = which[keep], rows[keep]
        touched = np.zeros(self.lists.documents, dtype=bool)
        touched[rows] = True
        found = np.flatnonzero(touched)
        column = np.zeros(self.lists.documents, dtype=np.int64)
        column[found] = np.arange(len(found))
        gains = np.zeros((len(near), len(found)), dtype=np.float32)
        np.maximum.at(gains, (tokens[which], column[rows]), worth[tokens, places][which])
        return best(gains.sum(0) + imputed.sum(), found, k)

    def _interacted(self, similar: torch.Tensor, found: Found, k: int) -> Found:
        """Rank candidates by the sum over query tokens of their best centroid."""
        if not len(found.rows):
            return found
        codes, lengths = self.lists.gathered(found.rows)
        best_of = segment_max(similar[:, torch.from_numpy(codes)], torch.from_numpy(lengths))
        return best(best_of.sum(0).numpy(), found.rows, k)
