"""A plan: the recipe that was chosen, what it is expected to keep, and how that was found out.

The recipe is chosen on one half of the queries. The best of many estimates is too good by luck, so
it is not believed: the other half of the queries measures the choice anew, on a real index. If they
do not confirm what is wanted, the next larger recipe is tried, and every refusal widens the
interval that is stated in the end, for of several tries one may pass by luck, too.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

from colreduce.embed import load_encoder
from colreduce.evaluate.measure import embedding_store, resolved
from colreduce.evaluate.progress import Progress, silent
from colreduce.plan.built import catalogue_bytes
from colreduce.plan.choice import Choice
from colreduce.plan.exact import exact_best
from colreduce.plan.measure import Measure
from colreduce.plan.options import halve
from colreduce.plan.result import Plan
from colreduce.plan.search import Search
from colreduce.plan.space import Space
from colreduce.plan.target import Target
from colreduce.plan.task import Task, load_task

QUERIES = 300
METRIC = "nDCG@10"

# Rows of exact search that pools and metrics may look at.
DEPTH = 100


def plan(
    source: str | Path,
    encoder: Any = None,
    *,
    keep: float | None = None,
    max_bytes_per_doc: float | None = None,
    max_ms: float | None = None,
    split: str | None = "test",
    metric: str = METRIC,
    queries: int = QUERIES,
    vectors: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    cache: bool = True,
    progress: Progress = silent,
) -> Plan:
    """Choose a recipe for a corpus.

    source    a folder in BEIR's layout or with TREC's files, a file of documents, or of vectors
    encoder   a model folder, a hub id, a `MultiVectorEncoder`; None with vectors
    keep      share of exact search's quality that must be kept; of the recipes that do, the
              smallest is chosen. Without it, the best recipe within the other bounds.
    split     which judgements to plan on; None to plan without judgements
    queries   how many queries at most; half of them choose, half are held back
    vectors   a file of vectors for the folder's texts, in place of an encoder
    cache     keep embeddings in the cache folder, and use those that are there
    """
    target = Target(keep, max_bytes_per_doc, max_ms)
    loaded = None if encoder is None else load_encoder(encoder, device=resolved(device))
    with embedding_store(cache) as store:
        task = load_task(
            Path(source),
            loaded,
            store,
            split=split,
            vectors=None if vectors is None else Path(vectors),
            queries=queries,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
        return plan_for(task, target, metric=metric, seed=seed, progress=progress)


def plan_for(
    task: Task,
    target: Target,
    *,
    metric: str = METRIC,
    seed: int = 0,
    progress: Progress = silent,
    **search: Any,
) -> Plan:
    """Choose a recipe for a task that is loaded; ``search`` sets fields of `Search`."""
    started = perf_counter()
    depth = max(DEPTH, Measure.depth_for(metric, task.qrels is not None))
    best = exact_best(task, depth, progress)
    measure, halves = Measure(task, metric, best), halve(len(task), seed)
    catalogue = catalogue_bytes(task)
    searching = Search(task, target, measure, best, halves, catalogue, seed, progress, **search)
    found = searching.run()
    options, rounds = list(found.options), list(found.rounds)
    choice = Choice(task, target, measure, halves, seed, progress)
    for rung in Space(task.documents.dim, words=False).rungs():
        if not choice.hopeless(options):
            break
        more, last = searching.climb(rung)
        options, rounds = [*options, *more], [*rounds, last]
    settled = choice.settle(options)
    return Plan(
        task=task,
        target=target,
        metric=measure.name,
        settled=settled,
        exact=float(measure.exact[halves.held_back].mean()),
        options=options,
        rounds=rounds,
        halves=halves,
        seed=seed,
        seconds=perf_counter() - started,
    )
