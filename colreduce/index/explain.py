"""Why a document has its score, down to the tokens it was encoded from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from colreduce.embed import Encoder, Piece, Reader, Reading
from colreduce.errors import BadInput, ColreduceError, ModelMismatch, NotFound
from colreduce.index import limits
from colreduce.index.build import ASSIGNMENT, GRID, ORIGINAL
from colreduce.index.search import OpenSegment, View
from colreduce.pipeline import Pipeline
from colreduce.reduce.base import PRUNED
from colreduce.rerank.none import Unranked
from colreduce.results import Explanation, Match, Token

STORED, RECOMPUTED, UNREDUCED = "stored", "recomputed", "unreduced"

# A document that is encoded again alone differs a little from one that was encoded among others:
# by rounding, which may also flip a code. Below this cosine it is another document or model.
LIKE = 0.95


class Explained(Protocol):
    """What an index must have for its hits to be explained."""

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""

    @property
    def view(self) -> View:
        """Return the frozen view that searches use now."""

    @property
    def encoder(self) -> Encoder:
        """Return the encoder."""


@dataclass(frozen=True, slots=True)
class _Traced:
    """Where the tokens of a document went: for each its stored vector, or `PRUNED`."""

    assignment: Tensor
    how: str
    likeness: float | None = None


def explain(index: Explained, query: str | Any, one: str) -> Explanation:
    """Say why a document has its score for a query; `Index.explain` tells the rest."""
    view = index.view
    pipeline = view.pipeline
    place = view.snapshot.find(one)
    if place is None:
        raise NotFound(f"there is no document {one!r} in the index")
    segment = view.snapshot.segments[place[0]]
    stored = _Stored(view.segments[segment.name], place[1])
    asked = _Asked.of(index, pipeline, query)
    read, why_not = _read_again(index, stored)
    traced = _trace(pipeline, stored, read, why_not, one)
    told = bool(why_not) and stored.text is not None and stored.grid is None
    notes = [*asked.notes, *([why_not] if told else [])]
    if isinstance(pipeline.recipe.reranker, Unranked):
        notes.append("this recipe ranks by its first stage; the score here is the exact one")
    if pipeline.recipe.reranker.second is not None:
        notes.append("the score here is over the stored vectors; the best are ranked by whole ones")
    products = pipeline.similarities(asked.vectors, stored.codes)
    shares, met = products.max(1)
    tokens = _tokens(traced.assignment, stored.grid, None if read is None else read.pieces)
    merged = _members(traced.assignment)
    unreduced = _unreduced(asked, read)
    matches = tuple(
        Match(owners, int(met[n]), merged.get(int(met[n]), ()), float(shares[n]), unreduced[n])
        for n, owners in enumerate(asked.owners)
    )
    return Explanation(
        one,
        math.fsum(match.share for match in matches),
        matches,
        asked.tokens,
        tokens,
        query if isinstance(query, str) else None,
        stored.text,
        traced.how,
        traced.likeness,
        stored.grid and stored.grid[1:],
        tuple(notes),
    )


class _Stored:
    """One document as the index holds it."""

    def __init__(self, opened: OpenSegment, row: int) -> None:
        segment = opened.segment
        counts = np.asarray(segment.arrays[ORIGINAL]).astype(np.int64)
        self.count = int(counts[row])
        self.text = segment.text(row)
        [(self.codes, _)] = opened.blocks(np.array([row]))
        self.vectors = opened.vectors(row)
        start = int(counts[:row].sum())
        places = segment.arrays.get(ASSIGNMENT)
        self.assignment = None if places is None else places[start : start + self.count]
        grid = segment.arrays.get(GRID)
        first, rows, columns = (0, 0, 0) if grid is None else map(int, grid[row])
        self.grid = (first, rows, columns) if rows else None


@dataclass(frozen=True, slots=True)
class _Asked:
    """The query as it is compared, and which of its tokens each of its vectors stands for."""

    vectors: Tensor
    raw: Tensor
    tokens: tuple[Token, ...]
    owners: Sequence[tuple[int, ...]]
    shrunk: bool
    notes: Sequence[str]

    @classmethod
    def of(cls, index: Explained, pipeline: Pipeline, query: str | Any) -> _Asked:
        text = query if isinstance(query, str) else None
        given: Any
        read = None if text is None else _read(index.encoder, text, query=True)
        if read is not None:
            given = read.vectors.tokens
        else:
            given = query if text is None else index.encoder.queries([text])[0]
        raw = limits.check_query(given, index.dim)
        vectors = pipeline.asked(raw, text).vectors
        every = tuple((number,) for number in range(len(raw)))
        pieces = None if read is None else read.pieces
        tokens = _tokens(torch.zeros(len(raw), dtype=torch.long), None, pieces)
        tokens = tuple(replace(token, vector=None) for token in tokens)
        reducers = pipeline.recipe.query_reducers
        if not reducers:
            return cls(vectors, raw, tokens, every, False, ())
        note = (
            f"the recipe shrinks queries ({', '.join(map(str, reducers))}): each of the query's "
            "tokens is shown with the vector nearest to it"
        )
        whole = [raw, *pipeline.transform_steps(raw)][-1]
        nearest = cosine_similarity(whole[:, None], vectors[None], dim=2).argmax(1)
        members = _members(nearest)
        owners = [members.get(number, ()) for number in range(len(vectors))]
        return cls(vectors, raw, tokens, owners, True, (note,))


def _read_again(index: Explained, stored: _Stored) -> tuple[Reading | None, str]:
    """Encode a document's text again; return what was read, or why there is nothing to show."""
    if stored.grid is not None:
        return None, "it is a page, which is not drawn again"
    if stored.text is None:
        return None, "the index holds no text of this document"
    try:
        read = _read(index.encoder, stored.text)
    except ColreduceError as error:
        return None, f"its text cannot be encoded again ({error})"
    if read is None:
        return None, "this encoder does not say which tokens its vectors stand for"
    if len(read.pieces) != stored.count:
        return None, (
            f"encoding its text gives {len(read.pieces)} vectors, but the document was stored "
            f"from {stored.count}: they were not made from this text as it is encoded here"
        )
    return read, ""


def _read(encoder: Encoder, text: str, *, query: bool = False) -> Reading | None:
    """Let an encoder read a text, if it is one that says what it reads."""
    return encoder.read(text, query=query) if isinstance(encoder, Reader) else None


def _trace(
    pipeline: Pipeline, stored: _Stored, read: Reading | None, why_not: str, one: str
) -> _Traced:
    """Find out where every token of a document went."""
    if not pipeline.recipe.reducers:
        return _Traced(torch.arange(stored.count), UNREDUCED)
    if stored.assignment is not None:
        places = torch.from_numpy(stored.assignment.astype(np.int64))
        return _Traced(places, STORED)
    if read is None:
        raise BadInput(
            f"where the tokens of {one!r} went was not stored, and it cannot be worked out again: "
            f"{why_not}. Build the index with store_assignment=True (--store-assignment).",
            field="id",
        )
    passed = pipeline.passed(read.vectors)
    likeness = _likeness(stored.vectors, pipeline.decode(passed.codes))
    if likeness < LIKE:
        raise ModelMismatch(
            f"where the tokens of {one!r} went was not stored, and encoding its text again does "
            f"not give the vectors that are stored (least cosine {likeness:.3f}): they came from "
            "elsewhere. Build the index with store_assignment=True (--store-assignment)."
        )
    return _Traced(passed.left.assignment, RECOMPUTED, likeness)


def _likeness(stored: Tensor, again: Tensor) -> float:
    """Return the least cosine of a stored vector to the one made again; 0 for other numbers."""
    if stored.shape != again.shape:
        return 0.0
    return min(1.0, float(cosine_similarity(stored, again, dim=1).min()))


def _tokens(
    assignment: Tensor, grid: tuple[int, int, int] | None, pieces: Sequence[Piece] | None
) -> tuple[Token, ...]:
    """Return what is known of every token, beside where it went."""
    made = []
    for position, place in enumerate(assignment.tolist()):
        token = Token(
            position, patch=_patch(position, grid), vector=None if place == PRUNED else place
        )
        if pieces is not None:
            piece = pieces[position]
            token = replace(token, text=piece.text, span=piece.span, special=piece.special)
        made.append(token)
    return tuple(made)


def _patch(position: int, grid: tuple[int, int, int] | None) -> tuple[int, int] | None:
    """Return the row and the column of a patch; the others are no patches."""
    if grid is None:
        return None
    first, rows, columns = grid
    place = position - first
    return divmod(place, columns) if 0 <= place < rows * columns else None


def _members(assignment: Tensor) -> dict[int, tuple[int, ...]]:
    """Return the positions that went into each vector."""
    members: dict[int, list[int]] = {}
    for position, place in enumerate(assignment.tolist()):
        if place != PRUNED:
            members.setdefault(place, []).append(position)
    return {place: tuple(positions) for place, positions in members.items()}


def _unreduced(asked: _Asked, read: Reading | None) -> list[float | None]:
    """Return the best product of each query vector with the document as it was encoded."""
    if read is None or asked.shrunk:
        return [None] * len(asked.owners)
    products = asked.raw @ read.vectors.tokens.T
    return [float(best) for best in products.max(1).values]
