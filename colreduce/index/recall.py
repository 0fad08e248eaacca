"""Measuring how much of the best ten documents is among the first so many candidates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Found, Query, best
from colreduce.errors import BadInput
from colreduce.index import auto
from colreduce.index.held_out import QUERIES, draw
from colreduce.index.limits import MAX_CANDIDATES
from colreduce.index.sample import sampled
from colreduce.index.search import Asked, View
from colreduce.maxsim import segment_max, sum_runs
from colreduce.ragged import Ragged

if TYPE_CHECKING:
    from colreduce.index.index import Index

log = logging.getLogger(__name__)

DEPTH = 10

# The numbers of candidates at which recall is measured, as far as the index has documents.
COUNTS = (10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500)

# Multiplications that finding the best ten may take, which is a minute or two on two cores; the
# fewest queries that are asked nevertheless.
MOST_PRODUCTS, FEWEST = 2e12, 16

# What the queries are called that users gave.
GIVEN = "queries given"

# Query vectors that meet a block of stored ones at a time: 64 MB of similarities.
TOGETHER = 256


def keep(index: Index, asked: Sequence[Asked] | None = None) -> dict[str, Any]:
    """Measure the recall curve of an index against all that it stores, and keep it.

    asked  as users ask; without any, queries are drawn from the sampled documents
    """
    view = index.view
    if asked is None:
        kind, queries, hidden = _drawn(index)
    else:
        kind, queries, hidden = GIVEN, [one.query for one in asked], [-1] * len(asked)
    if not queries:
        raise BadInput("there are no queries to measure recall with", field="queries")
    counts, recall = curve(view, queries, hidden, best_rows(view, queries, hidden))
    measured = {
        "documents": view.snapshot.count,
        "generation": view.snapshot.generation,
        "queries": {"kind": kind, "count": len(queries)},
        "counts": counts,
        "recall": recall,
    }
    index.note(**{auto.NOTE: measured})
    return measured


def keep_up(index: Index) -> None:
    """Measure the curve of an index that needs one; say so where that cannot be."""
    if not auto.due(index.recipe, index.view.snapshot):
        return
    try:
        keep(index)
    except BadInput as problem:
        log.warning(
            "candidates=auto asks for %d candidates, for no recall curve can be measured: %s",
            index.candidates,
            problem,
        )


def curve(
    view: View,
    queries: Sequence[Query],
    hidden: Sequence[int],
    wanted: Sequence[NDArray[np.int64]],
) -> tuple[list[int], list[float]]:
    """Return numbers of candidates, and how much of the wanted rows is among so many.

    hidden  a row for each query that it does not find, such as the one that it was drawn from
    wanted  the rows that are looked for

    The first stage is asked anew for every number: some look harder when they are asked for more.
    """
    documents = view.snapshot.count
    if auto.exhaustive(view.pipeline.recipe):
        return [documents], [1.0]
    counts: list[int] = []
    recall: list[float] = []
    for count in [one for one in COUNTS if one < documents] or [documents]:
        shares = []
        for query, own, rows in zip(queries, hidden, wanted, strict=True):
            found = view.candidates(Asked(query, DEPTH, min(count + 1, MAX_CANDIDATES))).rows
            found = found[found != own][:count]
            shares.append(np.isin(rows, found).mean())
        counts.append(count)
        recall.append(float(np.mean(shares)))
        if recall[-1] == 1:
            break
    return counts, recall


def best_rows(
    view: View, queries: Sequence[Query], hidden: Sequence[int], depth: int = DEPTH
) -> list[NDArray[np.int64]]:
    """Return each query's best rows by MaxSim over everything that is stored, best first."""
    found: list[NDArray[np.int64]] = []
    for some in Ragged.pack([query.vectors for query in queries]).blocks(TOGETHER):
        own = hidden[len(found) : len(found) + len(some)]
        found += [one.rows for one in _best_of(view, some, own, depth)]
    return found


def _best_of(view: View, queries: Ragged, hidden: Sequence[int], depth: int) -> list[Found]:
    """Score some queries against all live documents, a block at a time."""
    answers = [Found(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in hidden]
    for start, segment in zip(view.starts, view.filled, strict=False):
        live = np.flatnonzero(segment.live)
        done = 0
        for codes, lengths in view.segments[segment.name].blocks(live):
            rows = live[done : done + len(lengths)] + start
            done += len(lengths)
            similarities = view.pipeline.similarities(queries.tokens, codes)
            scores = sum_runs(segment_max(similarities, lengths), queries.lengths).numpy()
            for query, own in enumerate(hidden):
                others = rows != own
                joined = np.concatenate([answers[query].scores, scores[query, others]])
                known = np.concatenate([answers[query].rows, rows[others]])
                answers[query] = best(joined, known, depth)
    return answers


def _drawn(index: Index) -> tuple[str, list[Query], list[int]]:
    """Draw queries from the sampled documents; return also the row of each one's document."""
    view = index.view
    sample = sampled(view.snapshot)
    if sample is None:
        raise BadInput("the index keeps no sample of its documents to draw queries from")
    asking = draw(
        sample.ids,
        sample.vectors,
        sample.texts if any(sample.texts) else None,
        index.loaded_encoder,
        int(view.snapshot.config["seed"]),
        count=_affordable(view),
    )
    pairs = zip(asking.vectors.unpack(), asking.texts, strict=True)
    places = [view.snapshot.find(one) for one in asking.sources]
    starts = dict(zip((segment.name for segment in view.filled), view.starts, strict=False))
    rows = [
        -1 if place is None else int(starts[view.snapshot.segments[place[0]].name]) + place[1]
        for place in places
    ]
    return asking.kind, [index.pipeline.asked(*pair) for pair in pairs], rows


def _affordable(view: View) -> int:
    """Return how many queries of usual length can be scored against everything."""
    vectors = sum(int(view.segments[one.name].offsets[-1]) for one in view.filled)
    usual = 24 * vectors * int(view.snapshot.config["dim"])
    return int(min(QUERIES, max(FEWEST, MOST_PRODUCTS // max(usual, 1))))
