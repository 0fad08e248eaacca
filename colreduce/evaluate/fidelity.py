"""The loss ledger of an index, measured while its documents go in.

Every document is scored against the held-out queries as each stage leaves it, on its way into the
index, so nothing is read or encoded twice. What the finished index answers completes the ledger.
`docs/ledger.md` says what its plain values mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.evaluate.held_out import SENTENCES, Asking
from colreduce.evaluate.ledger import StageRanker
from colreduce.evaluate.levels import level_names
from colreduce.evaluate.rows import AGREEMENT
from colreduce.evaluate.statistics import LEVEL, Interval, bootstrap_columns
from colreduce.index import Index
from colreduce.index.auto import COUNTS, usual_candidates
from colreduce.index.ledger import packed
from colreduce.index.search import Asked
from colreduce.pipeline import Passed

FORMAT = 1
DEPTH = 10

# A stage that loses less than this of the main measure is not blamed.
NOTHING = 1e-9

TRUST = {
    SENTENCES: "drawn from documents; real queries differ, and `colreduce evaluate` with your own "
    "queries and judgements is the better judge",
}
TRUST_IN_SPANS = (
    "runs of the documents' own vectors, which are easier to find than real queries: read the "
    "losses as a comparison of stages, not as what users will see"
)


class LedgerMaker:
    """Watches a build, and then says what every stage lost."""

    def __init__(self, index: Index, asking: Asking) -> None:
        """``index`` is fitted and empty."""
        self._index = index
        self._asking = asking
        self._ranker = StageRanker(index.pipeline, asking.vectors, DEPTH, follow=DEPTH)
        self._seen = 0
        self._seconds = 0.0

    def watch(self, ids: Sequence[str], passed: Passed) -> None:
        """Take in documents as every stage left them."""
        started = perf_counter()
        places = {one: place for place, one in enumerate(ids)}
        hidden = [
            (query, places[source])
            for query, source in enumerate(self._asking.sources)
            if source in places
        ]
        self._ranker.see(self._seen, passed, hidden)
        self._seen += len(ids)
        self._seconds += perf_counter() - started

    def finish(self, seed: int) -> dict[str, Any]:
        """Search the finished index, and keep the ledger in it; return its plain values."""
        started = perf_counter()
        stages = self._ranker.finish()
        # Where there are few documents, the one hidden from a query stands last in its list.
        best = stages.rankings[0]
        exact = [
            rows[np.isfinite(scores)] for rows, scores in zip(best.rows, best.scores, strict=True)
        ]
        kinds = level_names(self._index.recipe)
        kept = [_overlap(one.rows, exact) for one in stages.rankings]
        errors: list[NDArray[np.float64] | None] = [
            _errors(level, stages.followed[0]) for level in stages.followed
        ]
        curve = self._curve(exact)
        first, final = self._answers(usual_candidates(self._index.recipe, {"candidates": curve}))
        recipe = self._index.recipe
        names = [*recipe.first_stages, recipe.fusion] if recipe.fusion else recipe.first_stages
        kinds += [("first_stage", " | ".join(map(str, names))), ("rerank", str(recipe.reranker))]
        kept += [_overlap(first, exact), _overlap(final, exact)]
        errors += [None, None]
        ledger = self._plain(kinds, np.stack(kept, axis=1), errors, seed)
        ledger["candidates"] = curve
        ledger["seconds"] = self._seconds + perf_counter() - started
        self._index.note(packed(ledger))
        return ledger

    def _curve(self, exact: Sequence[NDArray[np.int64]]) -> dict[str, list[float]]:
        """Return how much of the best ten is among the first so many candidates."""
        counts = [count for count in COUNTS if count < self._seen] or [self._seen]
        shares = np.zeros((len(self._asking), len(counts)))
        for query, (asked, hidden) in enumerate(self._asked(counts[-1] + 1)):
            found = self._index.view.candidates(asked).rows
            found = found[found != hidden]
            parts = [found[:count] for count in counts]
            shares[query] = _overlap(parts, [exact[query]] * len(counts))
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
            yield Asked(query, DEPTH + 1, candidates), self._index.view.row_of(source)

    def _plain(
        self,
        kinds: Sequence[tuple[str, str]],
        kept: NDArray[np.float64],
        errors: Sequence[NDArray[np.float64] | None],
        seed: int,
    ) -> dict[str, Any]:
        """Return the ledger; kept [queries, stages] is the overlap with exact search."""
        lost = -np.diff(kept, axis=1, prepend=kept[:, :1])
        values, losses = bootstrap_columns(kept, seed), bootstrap_columns(lost, seed)
        [whole] = bootstrap_columns(kept[:, :1] - kept[:, -1:], seed)
        stages = [
            {
                "stage": name,
                "kind": kind,
                "values": {AGREEMENT: values[number].to_dict()},
                "lost": {AGREEMENT: losses[number].to_dict()},
                "score_error": _interval(errors[number], seed),
            }
            for number, (kind, name) in enumerate(kinds)
        ]
        worst = max(range(len(kinds)), key=lambda number: losses[number].value)
        asking = self._asking
        return {
            "format": FORMAT,
            "generation": self._index.generation,
            "documents": self._seen,
            "queries": {"kind": asking.kind, "count": len(asking)},
            "level": LEVEL,
            "measures": [AGREEMENT],
            "stages": stages,
            "lost": {AGREEMENT: whole.to_dict()},
            "blame": kinds[worst][1] if losses[worst].value > NOTHING else "",
            "trust": TRUST.get(asking.kind, TRUST_IN_SPANS),
        }


def _overlap(
    rows: NDArray[np.int64] | Sequence[NDArray[np.int64]], exact: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return the share of exact search's best rows that is among these: [queries].

    Of nothing nothing can be lost.
    """
    pairs = zip(rows, exact, strict=True)
    return np.array([np.isin(best, some).mean() if len(best) else 1.0 for some, best in pairs])


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
