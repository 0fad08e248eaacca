"""Many recipes over one collection, one row each: quality, losses by stage, bytes and time.

Every recipe is built as a real index in a temporary folder and searched as a user would search
it; its metrics are those of that index. The loss ledger runs the stages one by one beside it and
must lead to the same scores.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Found
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.evaluate.build import build_index
from colreduce.evaluate.collection import Collection, load_collection
from colreduce.evaluate.embeddings import EmbeddingStore, Progress, cache_folder, silent
from colreduce.evaluate.ledger import Ranking, check_sum, rerank_candidates, run_stages
from colreduce.evaluate.metrics import (
    METRICS,
    Run,
    agreement,
    measures,
    ranked,
    relative,
    score_run,
    write_run,
)
from colreduce.index import Index
from colreduce.index.limits import MAX_K
from colreduce.index.search import Asked
from colreduce.recipe import Recipe

AGREEMENT = "agreement@10"

# Searches that are timed by themselves, for ten hits each.
TIMED = 100


@dataclass(frozen=True, slots=True)
class Loss:
    """What is left after one stage: the metrics of its ranking, and its overlap with exact."""

    stage: str
    metrics: Mapping[str, float]
    agreement: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"stage": self.stage, **self.metrics, AGREEMENT: self.agreement}


@dataclass(frozen=True, slots=True)
class Row:
    """What one recipe is worth on one collection, and what it costs.

    relative            the metrics as shares of those of exact search over the same vectors
    losses              cumulative, from exact search to what the index answers
    first_stage_alone   the metrics of the first stage's own order, without any reranking
    """

    dataset: str
    split: str
    recipe: str
    encoder: str
    documents: int
    queries: int
    metrics: Mapping[str, float]
    relative: Mapping[str, float]
    losses: Sequence[Loss]
    vectors_per_doc: float
    bytes_per_doc: Mapping[str, float]
    raw_bytes_per_doc: float
    text_bytes_per_doc: float
    index_seconds: Mapping[str, float]
    search_ms: Mapping[str, float]
    first_stage_alone: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``evaluate --json`` writes them."""
        return {**asdict(self), "losses": [loss.to_dict() for loss in self.losses]}


def as_document(rows: Sequence[Row]) -> dict[str, Any]:
    """Return rows as the one document that ``evaluate --json`` writes."""
    return {"format": 1, "rows": [row.to_dict() for row in rows]}


def evaluate(
    source: str | Path,
    encoder: Any,
    recipes: Sequence[Recipe | str | Path],
    *,
    split: str = "test",
    metrics: Sequence[str] = METRICS,
    vectors: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    cache: bool = True,
    run_out: str | Path | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """Measure recipes on a collection.

    source   a folder in BEIR's layout, or a file of vectors with judgements
    encoder  a model folder, a hub id, a `MultiVectorEncoder` or a loaded encoder; None with vectors
    vectors  a file of vectors for the folder's documents and queries, in place of an encoder
    cache    keep embeddings in the cache folder, and use those that are there
    run_out  a file that takes the rankings in TREC's format, one tag per recipe
    """
    from colreduce.embed import load_encoder

    chosen = [Recipe.parse(recipe) for recipe in recipes]
    measures(metrics)
    with EmbeddingStore(cache_folder() / "embeddings" if cache else None) as store:
        loaded = None if encoder is None else load_encoder(encoder, device=device)
        collection = load_collection(
            Path(source),
            loaded,
            store,
            split=split,
            vectors=None if vectors is None else Path(vectors),
            batch_size=batch_size,
            progress=progress,
        )
        judge = Judge(collection, metrics, device=_device(device), progress=progress)
        judge.exact = _load_exact(store, judge)
        rows: list[Row] = []
        runs: list[tuple[str, Run]] = []
        for recipe in chosen:
            with tempfile.TemporaryDirectory(prefix="colreduce-") as folder:
                index, seconds = build_index(
                    Path(folder) / "index",
                    collection.corpus,
                    recipe,
                    encoder=loaded,
                    seed=seed,
                    progress=progress,
                )
                with index:
                    row, run = judge.row(index, seconds)
            _save_exact(store, judge)
            rows.append(row)
            runs.append((f"colreduce-{len(runs) + 1}", run))
        if run_out is not None:
            write_run(Path(run_out), runs)
    return rows


class Judge:
    """Measures indexes of one collection against exact search over its vectors."""

    def __init__(
        self,
        collection: Collection,
        metrics: Sequence[str] = METRICS,
        *,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        self.collection = collection
        self.metrics = tuple(metrics)
        self.exact: Ranking | None = None
        self.depth = _depth(metrics, len(collection.corpus.ids))
        self._device = device
        self._progress = progress

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
        losses, alone = self._losses(index, asked, answers, final)
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
        ), final

    def _asked(self, index: Index) -> list[Asked]:
        """Return the queries as the index takes them, each with its text where that is known."""
        wanted = getattr(index.recipe.reranker, "candidates", self.depth)
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

    def _losses(
        self, index: Index, asked: Sequence[Asked], answers: Sequence[Any], final: Run
    ) -> tuple[list[Loss], dict[str, float]]:
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
            alone = self._score(self._run_of(found, [one.scores for one in found]))
        names = [*recipe.first_stages, recipe.fusion] if recipe.fusion else recipe.first_stages
        runs.append((" | ".join(map(str, names)), self._run_of(found, scores)))
        runs.append((str(recipe.reranker), final))
        expected = rerank_candidates(recipe, found, scores, min(10, self.depth))
        check_sum(expected, [[hit.score for hit in hits[:10]] for hits in answers])
        exact = runs[0][1]
        return [Loss(name, self._score(run), agreement(run, exact)) for name, run in runs], alone

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

    def _score(self, run: Run) -> dict[str, float]:
        return score_run(self.metrics, self.collection.qrels, run)

    def _bar(self, what: str, items: Sequence[Asked]) -> Any:
        for number, item in enumerate(items):
            self._progress(what, number, len(items))
            yield item
        self._progress(what, len(items), len(items))


def _exhaustive(recipe: Recipe) -> bool:
    return any(isinstance(method, Exhaustive) for method in recipe.first_stages)


def _depth(metrics: Sequence[str], documents: int) -> int:
    """Return how many hits the metrics look at, and one for the query's own id."""
    cutoffs = [one.params.get("cutoff") or MAX_K for one in measures(metrics)]
    return min(max([*cutoffs, 10]) + 1, MAX_K, documents)


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _exact_path(store: EmbeddingStore, judge: Judge) -> Path | None:
    if not judge.collection.key:
        return None
    name = hashlib.sha256(f"{judge.collection.key} {judge.depth}".encode()).hexdigest()
    return store.folder / f"exact-{name}.npz"


def _load_exact(store: EmbeddingStore, judge: Judge) -> Ranking | None:
    path = _exact_path(store, judge)
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Ranking("exact", arrays["rows"], arrays["scores"])
    except (OSError, ValueError, KeyError):
        return None  # not whole; it is computed again and replaced
    shape = (len(judge.collection.query_ids), judge.depth)
    return found if found.rows.shape == found.scores.shape == shape else None


def _save_exact(store: EmbeddingStore, judge: Judge) -> None:
    path = _exact_path(store, judge)
    if path is None or judge.exact is None or path.is_file():
        return
    with tempfile.NamedTemporaryFile(dir=store.folder, prefix=".tmp-", delete=False) as file:
        np.savez(file, rows=judge.exact.rows, scores=judge.exact.scores)
    os.replace(file.name, path)
