"""Answering queries over one frozen view of an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.candidates.base import FirstStage, Found, Parts, Query, Searcher, Side
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.codec.base import Codes
from colreduce.errors import BadInput, NotFound
from colreduce.filters import Columns, Filter
from colreduce.index.build import CODES, FIRST, LENGTHS, ORIGINAL
from colreduce.index.passing import Passing
from colreduce.index.resident import Resident
from colreduce.index.stored import WHOLE, Block, Stored, joined, whole_codec
from colreduce.maxsim import segment_max
from colreduce.pipeline import Pipeline
from colreduce.rerank.base import Scorer
from colreduce.rerank.none import Unranked
from colreduce.results import Hit
from colreduce.store import Segment, Snapshot

T = TypeVar("T")


class OpenSegment:
    """A segment with its stored vectors and its first stages ready to be asked."""

    def __init__(self, segment: Segment, pipeline: Pipeline) -> None:
        self.segment = segment
        self.pipeline = pipeline
        self.stored = Stored(segment.arrays, CODES, segment.arrays[LENGTHS], pipeline.recipe.codec)
        self.lengths = self.stored.lengths
        self.resident = Resident(pipeline, self.stored.codes, self.stored.lengths)
        self.searchers: dict[str, Searcher] = {
            key: method.open(parts_of(segment, key), pipeline.states.get(key, {}))
            for key, method in pipeline.recipe.keyed()
            if isinstance(method, FirstStage)
        }

    @cached_property
    def whole(self) -> Stored:
        """Return the vectors before any reducer; an index that keeps none never asks for them."""
        codec = whole_codec(self.pipeline.recipe)
        assert codec is not None, "the recipe keeps no such vectors"
        return Stored(self.segment.arrays, WHOLE, self.segment.arrays[ORIGINAL], codec)

    @cached_property
    def columns(self) -> Columns:
        """Return the metadata by field; read through once, when the first filter comes."""
        return Columns(self.segment.metadata(row) for row in range(self.segment.rows))

    def vectors(self, row: int) -> Tensor:
        """Return the stored vectors of one document: [m, d] float32."""
        [(codes, _)] = self.blocks(np.array([row]))
        return self.pipeline.decode(codes).clone()  # never the mapped bytes themselves

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Block]:
        """Yield the stored vectors of ``rows`` and their lengths, some documents at a time."""
        return self.stored.blocks(rows)

    def scores(
        self, query: Tensor, rows: NDArray[np.int64], check: Callable[[], None]
    ) -> NDArray[np.float32] | None:
        """Return the scores of ``rows`` over the stored vectors; None for block by block."""
        moved = self.resident.score(query, rows, check)
        if moved is not None:
            return moved
        numbers = self.stored.numbers
        return None if numbers is None else numbers.scores(query, rows, check)

    def whole_scores(
        self, query: Tensor, rows: NDArray[np.int64], check: Callable[[], None]
    ) -> NDArray[np.float32] | None:
        """Do the same over the vectors before any reducer."""
        numbers = self.whole.numbers
        return None if numbers is None else numbers.scores(query, rows, check)


@dataclass(slots=True)
class Asked:
    """One search, checked and encoded; when it is over, also how long each stage took."""

    query: Query
    k: int
    candidates: int
    exact: bool = False
    filter: Filter | None = None
    check: Callable[[], None] = lambda: None  # called between steps; raises to stop the search
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> how long it took
    second: bool = True  # whether the best are scored once more, where the recipe says so


class View:
    """A snapshot of the store with every segment opened. Never changes; safe to share."""

    def __init__(self, snapshot: Snapshot, pipeline: Pipeline, before: View | None = None) -> None:
        """``before`` is the view before this one: what has not changed is taken over from it."""
        known: Mapping[str, OpenSegment] = {} if before is None else before.segments
        self.snapshot = snapshot
        # A segment of deletions alone has no rows to search.
        self.filled = [segment for segment in snapshot.segments if segment.rows]
        self.pipeline = pipeline
        self.segments: dict[str, OpenSegment] = {
            segment.name: known.get(segment.name) or OpenSegment(segment, pipeline)
            for segment in self.filled
        }
        # Rows are numbered through all segments, so that candidates are plain arrays.
        self.starts = np.cumsum([0, *[segment.rows for segment in self.filled]])
        opened = [self.segments[segment.name] for segment in self.filled]
        self.sides: dict[str, list[Side]] = {
            key: method.assemble(
                [segment.searchers[key] for segment in opened],
                () if before is None else before.sides[key],
            )
            for key, method in pipeline.recipe.keyed()
            if isinstance(method, FirstStage)
        }

    @property
    def live(self) -> NDArray[np.bool_]:
        """Say of every row whether it is the newest record of its document."""
        return self._live.mask

    @cached_property
    def _live(self) -> Passing:
        return Passing([np.asarray(segment.live, dtype=bool) for segment in self.filled])

    @cached_property
    def by_id(self) -> NDArray[np.int64]:
        """Return all live rows in the order of their ids."""
        rows = np.flatnonzero(self.live)
        ids = np.array([self.id_of(int(row)) for row in rows], dtype=object)
        return np.asarray(rows[np.argsort(ids, kind="stable")], dtype=np.int64)

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.filled[number].ids[row - int(self.starts[number])]

    def row_of(self, one: str) -> int:
        """Return the row of a document that is there."""
        place = self.snapshot.find(one)
        if place is None:
            raise NotFound(f"there is no document {one!r}")
        number = self.filled.index(self.snapshot.segments[place[0]])
        return int(self.starts[number]) + place[1]

    def search(self, asked: Asked) -> list[Hit]:
        """Find candidates, score them, and return the best ``k``; equal scores by id."""
        started = perf_counter()
        passing = self.allowed(asked.filter)
        exact = self._exact(asked, passing)
        found = None if exact else self.candidates(asked, passing)
        asked.seconds["first_stage"] = perf_counter() - started
        reranker = self.pipeline.recipe.reranker
        second = reranker.second if asked.second else None
        wanted = asked.k if second is None else max(asked.k, second.count)
        if found is None:
            rows, scores = self._best_of_all(asked, passing, wanted)
        else:
            scorer = self.scorer(asked.query.vectors, found.rows, asked.check)
            order, scores = reranker.rank(found.scores, scorer, wanted)
            rows = found.rows[order]
        if second is not None:
            scorer = self.whole_scorer(asked.query.vectors, rows, asked.check)
            scores = scorer(np.arange(len(rows)))
        hits = self._hits(rows, scores)
        asked.seconds["rerank"] = perf_counter() - started - asked.seconds["first_stage"]
        return hits[: asked.k]

    def allowed(self, wanted: Filter | None) -> Passing:
        """Say which rows are live and pass the filter."""
        if wanted is None:
            return self._live
        columns = [self.segments[segment.name].columns for segment in self.filled]
        live = [np.asarray(segment.live, dtype=bool) for segment in self.filled]
        return Passing([mask & one.mask(wanted) for mask, one in zip(live, columns, strict=True)])

    def _exact(self, asked: Asked, passing: Passing) -> bool:
        """Say whether all documents that pass are scored.

        That is so when it is asked for, when no first stage leaves any out, and when a filter
        leaves no more than would be scored anyway: then a first stage could only lose some.
        """
        if asked.exact or isinstance(self.pipeline.recipe.reranker, Unranked):
            return asked.exact
        few = asked.filter and int(passing.mask.sum()) <= asked.candidates
        return bool(few) or self._exhaustive

    @cached_property
    def _exhaustive(self) -> bool:
        """Whether a first stage passes on every document."""
        return any(isinstance(stage, Exhaustive) for _, stage in self.pipeline.recipe.keyed())

    def _best_of_all(
        self, asked: Asked, passing: Passing, k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Score every document that passes; of equal scores those with the first ids are kept."""
        rows = np.flatnonzero(passing.mask)
        scores = self.scorer(asked.query.vectors, rows, asked.check)(np.arange(len(rows)))
        if k < len(scores):
            least = np.partition(scores, len(scores) - k)[len(scores) - k]
            kept = np.flatnonzero(scores >= least)
            if len(kept) > k:
                tied = {place: self.id_of(int(rows[place])) for place in kept.tolist()}
                kept = np.array(sorted(tied, key=lambda one: (-scores[one], tied[one]))[:k])
            rows, scores = rows[kept], scores[kept]
        return rows, scores

    def _all(self, passing: Passing) -> Found:
        rows = self.by_id[passing.mask[self.by_id]]
        return Found(rows, np.zeros(len(rows), dtype=np.float32))

    def candidates(self, asked: Asked, passing: Passing | None = None) -> Found:
        """Ask the first stages of all segments and join their answers."""
        passing = self.allowed(asked.filter) if passing is None else passing
        if self._exhaustive:
            return self._all(passing)
        found = [self._stage(sides, asked, passing) for sides in self.sides.values()]
        if len(found) == 1:
            return found[0]
        fusion: Any = self.pipeline.recipe.fusion  # a recipe with several first stages has one
        fused: Found = fusion.fuse(found, asked.candidates)
        return fused

    def _stage(self, sides: Sequence[Side], asked: Asked, passing: Passing) -> Found:
        """Ask one first stage in every segment; keep the best candidates over all."""
        parts: list[Found] = []
        number, prepared = 0, None
        for side in sides:
            start, number = number, number + len(side.segments)
            some, allowed = passing.run(start, number)
            if some:
                asked.check()
                prepared = side.together.prepare(asked.query) if prepared is None else prepared
                part = side.together.answer(prepared, asked.candidates, allowed, asked.check)
                parts.append(Found(part.rows + self.starts[start], part.scores))
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
        scores = np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)])
        order = np.lexsort((rows, -scores))[: asked.candidates]
        return Found(rows[order], scores[order])

    def scorer(
        self,
        query: Tensor,
        rows: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
    ) -> Scorer:
        """Return a function that scores some of ``rows``, chosen by position.

        ``check`` is called before every block, and raises when nobody waits for the scores.
        """
        return self._scorer(
            rows,
            lambda segment, some: segment.scores(query, some, check),
            lambda segment, some: segment.blocks(some),
            lambda blocks: _scored(blocks, partial(self.pipeline.similarities, query), check),
        )

    def whole_scorer(
        self,
        query: Tensor,
        rows: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
    ) -> Scorer:
        """Return what `scorer` does, for scores over the vectors before any reducer."""
        codec = whole_codec(self.pipeline.recipe)
        assert codec is not None, "the recipe keeps no such vectors"
        return self._scorer(
            rows,
            lambda segment, some: segment.whole_scores(query, some, check),
            lambda segment, some: segment.whole.blocks(some),
            lambda blocks: _scored(blocks, partial(codec.similarities, query, state={}), check),
        )

    def _scorer(
        self,
        rows: NDArray[np.int64],
        at_once: Callable[[OpenSegment, NDArray[np.int64]], NDArray[np.float32] | None],
        blocks: Callable[[OpenSegment, NDArray[np.int64]], Iterator[Block]],
        in_blocks: Callable[[Iterator[Block]], NDArray[np.float32]],
    ) -> Scorer:
        """Return a function that scores a segment's rows at once where that can be done.

        The others' blocks are scored together, whatever segments they are from.
        """

        def score(positions: NDArray[np.int64]) -> NDArray[np.float32]:
            wanted = rows[positions]
            if len(self.filled) == 1:
                found = at_once(self.segments[self.filled[0].name], wanted)
                if found is not None:
                    return found
            order = np.argsort(wanted, kind="stable")
            scores = np.empty(len(wanted), dtype=np.float32)
            rest: list[Iterator[Block]] = []
            places: list[NDArray[np.int64]] = []
            for segment, inside, part in self._parted(wanted[order]):
                found = at_once(segment, inside)
                if found is None:
                    rest.append(blocks(segment, inside))
                    places.append(order[part])
                else:
                    scores[order[part]] = found
            if rest:
                scores[np.concatenate(places)] = in_blocks(chain.from_iterable(rest))
            return scores

        return score

    def _parted(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[OpenSegment, NDArray[np.int64], slice]]:
        """Yield every segment that has some of the ascending rows, its rows, and their place."""
        bounds = np.searchsorted(rows, self.starts)
        for number, segment in enumerate(self.filled):
            first, last = int(bounds[number]), int(bounds[number + 1])
            if first < last:
                inside = rows[first:last] - self.starts[number]
                yield self.segments[segment.name], inside, slice(first, last)

    def _hits(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        numbers = np.searchsorted(self.starts, rows, "right") - 1
        inside = rows - self.starts[numbers]
        hits = [
            Hit(self.filled[number].ids[row], score, self.filled[number].metadata(row))
            for number, row, score in zip(
                numbers.tolist(), inside.tolist(), scores.tolist(), strict=True
            )
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def _scored(
    blocks: Iterator[Block], products: Callable[[Codes], Tensor], check: Callable[[], None]
) -> NDArray[np.float32]:
    """Return the exact scores of the documents of all blocks."""
    found = [torch.empty(0)]
    for codes, lengths in joined(blocks):
        check()
        found.append(segment_max(products(codes), lengths).sum(0))
    return torch.cat(found).numpy()


def parts_of(segment: Segment, key: str) -> Parts:
    """Return what a segment holds of one first stage."""
    prefix = f"{FIRST}{key}."
    return Parts(_under(prefix, segment.arrays), _under(prefix, segment.buffers), segment.rows)


def _under(prefix: str, parts: Mapping[str, T]) -> dict[str, T]:
    """Return the parts whose names begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)
    }


def embed_queries(
    queries: Sequence[Any],
    encode: Callable[[Sequence[str]], Sequence[Tensor]],
    check: Callable[[Any], Tensor],
) -> list[tuple[Tensor, str | None]]:
    """Return each query's vectors, and its text when it came as text; texts are encoded at once."""
    if isinstance(queries, str):
        raise BadInput(f"wanted a list of queries, got the string {queries!r}", field="queries")
    texts = [query for query in queries if isinstance(query, str)]
    encoded = iter(encode(texts) if texts else [])
    return [
        (check(next(encoded)), query) if isinstance(query, str) else (check(query), None)
        for query in queries
    ]
