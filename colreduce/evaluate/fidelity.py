"""The loss ledger of an index, measured while its documents go in.

Every document is scored against the held-out queries as each stage leaves it, on its way into the
index, so nothing is read or encoded twice. What the finished index answers completes the ledger.
What is known of one run of documents is a few small arrays: a build that goes on after a stop keeps
them beside each piece, and takes them in again in the place of the documents.
`docs/ledger.md` says what its plain values mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate import drift
from colreduce.evaluate.held_out import GIVEN, JUDGED, SENTENCES, Asking
from colreduce.evaluate.ledger import StageRanker
from colreduce.evaluate.levels import level_names
from colreduce.evaluate.metrics import scored
from colreduce.evaluate.rows import AGREEMENT
from colreduce.evaluate.scoring import overlaps
from colreduce.evaluate.statistics import LEVEL, Interval, bootstrap_columns
from colreduce.index import Index
from colreduce.index.auto import COUNTS, usual_candidates
from colreduce.index.ledger import packed
from colreduce.index.search import Asked
from colreduce.pipeline import Passed, Pipeline
from colreduce.recipe import Recipe

FORMAT = 1
DEPTH = 10

# What stages are worth by judgements, where there are any.
METRICS = ("nDCG@10", "R@10")

# The row of no document.
NOWHERE = -1

# A stage that loses less than this of the main measure is not blamed.
NOTHING = 1e-9

TRUST = {
    JUDGED: "",
    GIVEN: "",
    SENTENCES: "drawn from documents; real queries differ, and `colreduce evaluate` with your own "
    "queries and judgements is the better judge",
}
TRUST_IN_SPANS = (
    "runs of the documents' own vectors, which are easier to find than real queries: read the "
    "losses as a comparison of stages, not as what users will see"
)


@dataclass(frozen=True, slots=True)
class Best:
    """The best rows of each query after every stage, among the documents of one run or of many.

    rows, scores  [levels, queries, up to DEPTH]   best first; of equal scores the earlier row
    followed      [levels, queries, up to DEPTH]   every level's scores of exact search's best rows
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    followed: NDArray[np.float32]

    @classmethod
    def none(cls, recipe: Recipe, asking: Asking) -> Best:
        """Return what is known before the first document."""
        nothing = np.empty((len(level_names(recipe)), len(asking), 0), np.float32)
        return cls(nothing.astype(np.int64), nothing, nothing)

    def followed_by(self, later: Best) -> Best:
        """Join what was found with what was found in later rows."""
        rows = np.concatenate([self.rows, later.rows], axis=2)
        scores = np.concatenate([self.scores, later.scores], axis=2)
        followed = np.concatenate([self.followed, later.followed], axis=2)
        best = np.argsort(-scores, axis=2, kind="stable")[..., :DEPTH]
        exact = np.argsort(-followed[:1], axis=2, kind="stable")[..., :DEPTH]
        return Best(
            np.take_along_axis(rows, best, axis=2),
            np.take_along_axis(scores, best, axis=2),
            np.take_along_axis(followed, exact, axis=2),
        )

    @property
    def loss(self) -> float:
        """Return which share of exact search's best is lost by what is stored."""
        exact = _found(self.rows[0], self.scores[0])
        return float(1 - overlaps(self.rows[-1], exact).mean())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return it as arrays to be kept."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class RunWatch:
    """Ranks a run of documents after every stage, while it comes by a batch at a time."""

    def __init__(self, pipeline: Pipeline, asking: Asking, first: int) -> None:
        """``first`` is the row of the run's first document."""
        self._asking = asking
        self._ranker = StageRanker(pipeline, asking.vectors, DEPTH, follow=DEPTH)
        self._row = first
        self.seconds = 0.0

    def __call__(self, ids: Sequence[str], passed: Passed) -> None:
        """Take in documents as every stage left them."""
        started = perf_counter()
        places = {one: place for place, one in enumerate(ids)}
        hidden = [
            (query, places[source])
            for query, source in enumerate(self._asking.sources)
            if source in places
        ]
        self._ranker.see(self._row, passed, hidden)
        self._row += len(ids)
        self.seconds += perf_counter() - started

    def finish(self) -> Best:
        """Return what was found."""
        stages = self._ranker.finish()
        return Best(
            np.stack([ranking.rows for ranking in stages.rankings]),
            np.stack([ranking.scores for ranking in stages.rankings]),
            stages.followed,
        )


class LedgerMaker:
    """Takes in what was found in every run of documents, and then says what every stage lost."""

    def __init__(self, index: Index, asking: Asking) -> None:
        """``index`` is fitted and empty."""
        self._index = index
        self._asking = asking
        self._best = Best.none(index.recipe, asking)
        self._seen = 0

    def take(self, run: Best, documents: int) -> None:
        """Take in what was found in the next run of documents."""
        self._best = self._best.followed_by(run)
        self._seen += documents

    def finish(self, seed: int, seconds: float = 0.0) -> dict[str, Any]:
        """Search the finished index, and keep the ledger in it; return its plain values.

        seconds  what watching the documents took
        """
        started = perf_counter()
        exact = _found(self._best.rows[0], self._best.scores[0])
        kinds = level_names(self._index.recipe)
        found = [_found(*level) for level in zip(self._best.rows, self._best.scores, strict=True)]
        followed = self._best.followed
        errors: list[NDArray[np.float64] | None] = [
            _errors(level, followed[0]) for level in followed
        ]
        curve = self._curve(exact)
        first, final = self._answers(usual_candidates(self._index.recipe, {"candidates": curve}))
        recipe = self._index.recipe
        names = [*recipe.first_stages, recipe.fusion] if recipe.fusion else recipe.first_stages
        kinds += [("first_stage", " | ".join(map(str, names))), ("rerank", str(recipe.reranker))]
        found += [first, final]
        errors += [None, None]
        kept = {AGREEMENT: np.stack([overlaps(rows, exact) for rows in found], axis=1)}
        ledger = self._plain(kinds, {**self._judged(found), **kept}, errors, seed)
        ledger["candidates"] = curve
        again = drift.measure(self._index)
        arrays: dict[str, NDArray[Any]] = {}
        if again is not None:
            next_seq = self._index.view.snapshot.manifest.next_seq
            ledger["sample"], arrays = again.to_keep(next_seq)
        ledger["seconds"] = seconds + perf_counter() - started
        self._index.note(packed(ledger, arrays))
        return ledger

    def _curve(self, exact: Sequence[NDArray[np.int64]]) -> dict[str, list[float]]:
        """Return how much of the best ten is among the first so many candidates."""
        counts = [count for count in COUNTS if count < self._seen] or [self._seen]
        shares = np.zeros((len(self._asking), len(counts)))
        for query, (asked, hidden) in enumerate(self._asked(counts[-1] + 1)):
            found = self._index.view.candidates(asked).rows
            found = found[found != hidden]
            parts = [found[:count] for count in counts]
            shares[query] = overlaps(parts, [exact[query]] * len(counts))
        return {"counts": counts, "recall": shares.mean(0).tolist()}

    def _answers(self, wanted: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """Return the best rows among each query's candidates, and those that the index answers."""
        view = self._index.view
        first, final = [], []
        for asked, hidden in self._asked(max(wanted, DEPTH + 1)):
            found = view.candidates(asked).rows
            found = found[found != hidden]
            scores = view.scorer(asked.query.vectors, found)(np.arange(len(found)))
            first.append(found[np.argsort(-scores, kind="stable")[:DEPTH]])
            hits = np.array([view.row_of(hit.id) for hit in view.search(asked)], dtype=np.int64)
            final.append(hits[hits != hidden][:DEPTH])
        return first, final

    def _asked(self, candidates: int) -> Iterator[tuple[Asked, int]]:
        """Yield every query as the index takes it, and the row that is hidden from it."""
        asking = self._asking
        for vectors, text, source in zip(
            asking.vectors.unpack(), asking.texts, asking.sources, strict=True
        ):
            query = self._index.pipeline.asked(vectors, text)
            there = self._index.view.snapshot.find(source) is not None
            hidden = self._index.view.row_of(source) if there else NOWHERE
            yield Asked(query, DEPTH + 1, candidates), hidden

    def _judged(
        self, found: Sequence[Sequence[NDArray[np.int64]]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return what every stage's best are worth by the judgements: [queries, stages]."""
        if not self._asking.grades:
            return {}
        names = [str(number) for number in range(len(self._asking))]
        qrels = {name: dict(told) for name, told in zip(names, self._asking.grades, strict=True)}
        id_of = self._index.view.id_of
        columns: dict[str, list[list[float]]] = {name: [] for name in METRICS}
        for stage in found:
            hits = [[(id_of(row), -float(place)) for place, row in enumerate(r)] for r in stage]
            _, values = scored(METRICS, qrels, dict(zip(names, hits, strict=True)))
            for name in METRICS:
                columns[name].append([values[name][one] for one in names])
        return {name: np.array(rows).T for name, rows in columns.items()}

    def _plain(
        self,
        kinds: Sequence[tuple[str, str]],
        kept: Mapping[str, NDArray[np.float64]],
        errors: Sequence[NDArray[np.float64] | None],
        seed: int,
    ) -> dict[str, Any]:
        """Return the ledger; ``kept`` holds what every stage is worth by the measures."""
        lost = {name: -np.diff(part, axis=1, prepend=part[:, :1]) for name, part in kept.items()}
        whole = {name: part[:, :1] - part[:, -1:] for name, part in kept.items()}
        values = {name: bootstrap_columns(part, seed) for name, part in kept.items()}
        losses = {name: bootstrap_columns(part, seed) for name, part in lost.items()}
        stages = [
            {
                "stage": name,
                "kind": kind,
                "values": {one: values[one][number].to_dict() for one in kept},
                "lost": {one: losses[one][number].to_dict() for one in kept},
                "score_error": _interval(errors[number], seed),
            }
            for number, (kind, name) in enumerate(kinds)
        ]
        main = losses[next(iter(kept))]
        worst = max(range(len(kinds)), key=lambda number: main[number].value)
        asking = self._asking
        return {
            "format": FORMAT,
            "generation": self._index.generation,
            "documents": self._seen,
            "queries": {"kind": asking.kind, "count": len(asking)},
            "level": LEVEL,
            "measures": list(kept),
            "stages": stages,
            "lost": {n: bootstrap_columns(part, seed)[0].to_dict() for n, part in whole.items()},
            "blame": kinds[worst][1] if main[worst].value > NOTHING else "",
            "trust": TRUST.get(asking.kind, TRUST_IN_SPANS),
        }


def _found(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """Return each query's rows.

    Where there are few documents, the one hidden from a query stands last in its list.
    """
    return [some[np.isfinite(told)] for some, told in zip(rows, scores, strict=True)]


def _errors(scores: NDArray[np.float32], exact: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean distance from the exact scores, as a share of them: [queries]."""
    there = np.isfinite(exact) & np.isfinite(scores)
    gaps = np.where(there, np.abs(scores - np.where(there, exact, 0)), 0.0).sum(1)
    sizes = np.where(there, np.abs(exact), 0.0).sum(1)
    return np.asarray(gaps / np.maximum(sizes, 1e-12), dtype=np.float64)


def _interval(values: NDArray[np.float64] | None, seed: int) -> dict[str, float] | None:
    if values is None:
        return None
    found: list[Interval] = bootstrap_columns(values[:, None], seed)
    return found[0].to_dict()
