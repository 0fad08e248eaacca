"""Measuring one index of one collection: quality, losses by stage, bytes and time.

An index is searched as a user would search it; its metrics are those of its answers. The stages
are run one by one beside it and must lead to the same scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Found
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.evaluate.collection import Collection
from colreduce.evaluate.embeddings import Progress, silent
from colreduce.evaluate.ledger import Ranking, check_sum, rerank_candidates, run_stages
from colreduce.evaluate.metrics import (
    METRICS,
    Run,
    agreements,
    measures,
    ranked,
    relative,
    score_run,
    scored,
)
from colreduce.evaluate.rows import AGREEMENT, Loss, Row
from colreduce.evaluate.statistics import Interval, bootstrap_columns, bootstrap_ratio
from colreduce.index import Index
from colreduce.index.limits import MAX_K
from colreduce.index.search import Asked
from colreduce.recipe import Recipe

# Searches that are timed by themselves, for ten hits each.
TIMED = 100


class Judge:
    """Measures indexes of one collection against exact search over its vectors."""

    def __init__(
        self,
        collection: Collection,
        metrics: Sequence[str] = METRICS,
        *,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        self.collection = collection
        self.metrics = tuple(metrics)
        self.exact: Ranking | None = None
        self.depth = depth_of(metrics, len(collection.corpus.ids))
        self._seed = seed
        self._device = device
        self._progress = progress

    @property
    def exact_run(self) -> Run:
        """Return the ranking of exact search, which the first `row` finds out."""
        return {} if self.exact is None else self._run(self.exact.rows, self.exact.scores)

    def row(self, index: Index, seconds: Mapping[str, float]) -> tuple[Row, Run]:
        """Search an index of the whole collection, run its ledger, and measure both.

        ``seconds`` is what building took by stage.
        """
        asked = self._asked(index)
        search_ms = self._time(index, asked)
        answers = [index.view.search(one) for one in self._bar("search", asked)]
        final = {
            name: ranked(name, [(hit.id, hit.score) for hit in hits])
            for name, hits in zip(self.collection.query_ids, answers, strict=True)
        }
        runs, alone = self._stages(index, asked, answers, final)
        losses, intervals, shares = self._losses(runs)
        about = index.describe()
        kept = ("vectors", "first_stage", "catalogue", "models", "total")
        size = about["bytes_per_doc"]
        count = len(self.collection.corpus.ids)
        return Row(
            dataset=self.collection.name,
            split=self.collection.split,
            recipe=str(index.recipe),
            encoder=self.collection.encoder_name,
            documents=count,
            queries=len(asked),
            metrics=losses[-1].metrics,
            relative=relative(losses[-1].metrics, losses[0].metrics),
            losses=losses,
            vectors_per_doc=about["vectors_per_doc"],
            bytes_per_doc={name: size[name] for name in kept},
            raw_bytes_per_doc=about["raw_bytes_per_doc"],
            text_bytes_per_doc=self.collection.text_bytes / count,
            index_seconds={"encode": self.collection.corpus.embeddings.seconds, **seconds},
            search_ms=search_ms,
            first_stage_alone=alone,
            intervals=intervals,
            relative_intervals=shares,
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
        ), final

    def _asked(self, index: Index) -> list[Asked]:
        """Return the queries as the index takes them, each with its text where that is known."""
        wanted = index.candidates
        vectors = self.collection.queries.unpack()
        return [
            Asked(index.pipeline.asked(one, text), self.depth, wanted)
            for one, text in zip(vectors, self.collection.query_texts, strict=True)
        ]

    def _time(self, index: Index, asked: Sequence[Asked]) -> dict[str, float]:
        """Time single searches for ten hits, the first of them left out."""
        times = []
        for one in [asked[0], *asked[:TIMED]]:
            started = perf_counter()
            index.view.search(Asked(one.query, min(10, one.k), one.candidates))
            times.append((perf_counter() - started) * 1000)
        return {f"p{q}": float(np.percentile(times[1:], q)) for q in (50, 95, 99)}

    def _stages(
        self, index: Index, asked: Sequence[Asked], answers: Sequence[Any], final: Run
    ) -> tuple[list[tuple[str, Run]], dict[str, float]]:
        """Return the ranking after every stage, and the metrics of the first stage alone."""
        recipe = index.recipe
        found = [index.view.candidates(one) for one in asked]
        stages = run_stages(
            index.pipeline,
            self.collection.corpus.embeddings,
            self.collection.queries,
            depth=self.depth,
            candidates=None if _exhaustive(recipe) else [one.rows for one in found],
            exact=self.exact,
            device=self._device,
            progress=self._progress,
        )
        self.exact = stages.rankings[0]
        runs = [(one.stage, self._run(one.rows, one.scores)) for one in stages.rankings]
        last, alone = stages.rankings[-1], {}
        if stages.candidates is None:
            found = [Found(rows, np.zeros(len(rows), dtype=np.float32)) for rows in last.rows]
            scores = list(last.scores)
        else:
            scores = stages.candidates
            first = self._run_of(found, [one.scores for one in found])
            alone = score_run(self.metrics, self.collection.qrels, first)
        names = [*recipe.first_stages, recipe.fusion] if recipe.fusion else recipe.first_stages
        runs.append((" | ".join(map(str, names)), self._run_of(found, scores)))
        runs.append((str(recipe.reranker), final))
        if recipe.reranker.second is not None:
            # What the stages lead to is what the index finds before it scores the best once more.
            answers = [index.view.search(replace(one, second=False)) for one in asked]
        expected = rerank_candidates(recipe, found, scores, min(10, self.depth))
        check_sum(expected, [[hit.score for hit in hits[:10]] for hits in answers])
        return runs, alone

    def _losses(
        self, runs: Sequence[tuple[str, Run]]
    ) -> tuple[list[Loss], dict[str, Interval], dict[str, Interval]]:
        """Return the ledger, and the intervals of the last row: as it is, and relative to exact."""
        means, tables = [], []
        for _, run in runs:
            aggregated, queries = scored(self.metrics, self.collection.qrels, run)
            shares = agreements(run, runs[0][1])
            queries[AGREEMENT] = {name: shares.get(name, 1.0) for name in self.collection.qrels}
            means.append((aggregated, float(np.mean(list(shares.values()) or [1.0]))))
            tables.append(np.array([list(one.values()) for one in queries.values()]).T)
        names = [*self.metrics, AGREEMENT]
        losses = []
        for number, ((stage, _), (metrics, kept)) in enumerate(zip(runs, means, strict=True)):
            gaps = tables[max(number - 1, 0)] - tables[number]
            lost = dict(zip(names, bootstrap_columns(gaps, self._seed), strict=True))
            losses.append(Loss(stage, metrics, kept, lost))
        last = dict(zip(names, bootstrap_columns(tables[-1], self._seed), strict=True))
        ratios = {
            name: bootstrap_ratio(tables[-1][:, column], tables[0][:, column], self._seed)
            for column, name in enumerate(self.metrics)
        }
        return losses, {name: last[name] for name in names}, ratios

    def _run(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Run:
        ids = self.collection.corpus.ids
        return {
            name: ranked(name, [(ids[row], score) for row, score in zip(*pair, strict=True)])
            for name, *pair in zip(
                self.collection.query_ids, rows.tolist(), scores.tolist(), strict=True
            )
        }

    def _run_of(self, found: Sequence[Found], scores: Sequence[NDArray[np.float32]]) -> Run:
        ids = self.collection.corpus.ids
        return {
            name: ranked(
                name,
                [
                    (ids[row], value)
                    for row, value in zip(one.rows.tolist(), some.tolist(), strict=True)
                ],
            )[: self.depth]
            for name, one, some in zip(self.collection.query_ids, found, scores, strict=True)
        }

    def _bar(self, what: str, items: Sequence[Asked]) -> Any:
        for number, item in enumerate(items):
            self._progress(what, number, len(items))
            yield item
        self._progress(what, len(items), len(items))


def _exhaustive(recipe: Recipe) -> bool:
    return any(isinstance(method, Exhaustive) for method in recipe.first_stages)


def depth_of(metrics: Sequence[str], documents: int) -> int:
    """Return how many hits the metrics look at, and one for the query's own id."""
    cutoffs = [one.params.get("cutoff") or MAX_K for one in measures(metrics)]
    return min(max([*cutoffs, 10]) + 1, MAX_K, documents)
