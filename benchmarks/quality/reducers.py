"""Every reducer at 1/2 to 1/32 of the vectors, on real judgements.

    python -m benchmarks.quality.reducers --dataset nfcorpus
    python -m benchmarks.quality.reducers --dataset lotte500

Documents and queries are encoded once (and cached), transformed by ``pca(dim=128)``, reduced,
and every query is scored against every document by MaxSim: no first stage and no codec stand
between a reducer and its figures. ``--device cuda`` reduces and scores there. Results
are kept after every row in ``benchmarks/results/reducers-DATASET.json``, so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import common
from colreduce.embed import load_encoder
from colreduce.evaluate.collection import load_collection
from colreduce.evaluate.embeddings import EmbeddingStore, cache_folder
from colreduce.evaluate.metrics import score_run
from colreduce.evaluate.scoring import dense, score_all
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.reduce import REDUCERS
from colreduce.reduce.base import Budgeted

FACTORS = (2, 4, 8, 16, 32)
METRICS = ("nDCG@10", "R@100")
SAMPLE = 512
SEED = 0

# Methods worth more than their defaults, beside one line for every row of the table.
VARIANTS = (
    'ward(mode="condensed", {budget})',
    'ward(mode="rows", {budget})',
    'agglomerative(linkage="complete", {budget})',
    'agglomerative(linkage="single", {budget})',
)
# What works in one direction only: no budget, its own knob.
UNBUDGETED = (
    "dedupe",
    "words",
    "stopwords",
    "punctuation",
    "idf_types(types=25)",
    "idf_types(types=100)",
    "words | ward({budget})",
    "stopwords | ward({budget})",
    # One vector in twelve on average, more for documents that lose more.
    "stopwords | ward(average=20)",
    "stopwords | ward(average=14)",
    "ward(average=20)",
    "ward(average=14)",
)


@dataclass(frozen=True)
class Task:
    """A collection after the transform: what all methods start from."""

    documents: Ragged
    queries: Ragged
    ids: list[str]
    query_ids: list[str]
    qrels: dict[str, dict[str, int]]
    vocabulary: dict[str, int]
    text_bytes: int = 0


def load_task(name: str, device: str) -> tuple[Task, dict[str, float]]:
    """Load and transform a collection; return it with the figures of exact search before PCA."""
    vectors = common.data("vectors", "lotte500_colbertv2.npz") if name == "lotte500" else None
    encoder = None if vectors else load_encoder(common.encoder_folder())
    with EmbeddingStore(cache_folder() / "embeddings") as store:
        found = load_collection(common.data("beir", name), encoder, store, vectors=vectors)
        whole = found.corpus.embeddings
        documents = whole.span(0, len(whole))
    recipe = Recipe(Recipe.parse("pca(dim=128)").methods[:1])
    pipeline = Pipeline.fit(recipe, documents.take(sampled(len(documents))), seed=SEED)
    task = Task(
        pipeline.transform(documents).to(device),
        found.queries.with_tokens(pipeline.query(found.queries.tokens)).to(device),
        list(found.corpus.ids),
        found.query_ids,
        found.qrels,
        dict(encoder.vocabulary) if encoder else {},
        found.text_bytes,
    )
    asked = found.queries.to(device)
    exact = Task(documents, asked, task.ids, task.query_ids, task.qrels, {})
    return task, figures(exact, scores(exact, documents.to(device)), None)


def sampled(count: int) -> torch.Tensor:
    """Return the rows that methods learn from, the same ones whatever learns."""
    draw = torch.Generator().manual_seed(SEED)
    return torch.randperm(count, generator=draw)[:SAMPLE].sort().values


def scores(task: Task, documents: Ragged) -> NDArray[np.float32]:
    """Score all queries against all documents."""
    return score_all(task.queries, documents.lengths.cpu().numpy(), dense(documents.tokens))


def figures(
    task: Task, got: NDArray[np.float32], best: NDArray[np.int64] | None
) -> dict[str, float]:
    """Return the metrics, and the agreement with the unreduced top 10."""
    run = {}
    for query, row in zip(task.query_ids, got, strict=True):
        top = np.argsort(-row, kind="stable")[:101]
        run[query] = [(task.ids[i], float(row[i])) for i in top if task.ids[i] != query]
    values = score_run(METRICS, task.qrels, run)
    if best is not None:
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(best, top_rows(got), strict=True)]
        values["agreement@10"] = float(np.mean(shared))
    return values


def top_rows(got: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the best ten rows of each query."""
    return np.argsort(-got, axis=1, kind="stable")[:, :10]


def lines() -> list[str]:
    """Return one line with a place for the budget per method and variant."""
    budgeted = [
        f"{name}({{budget}})" for name, row in REDUCERS.items() if issubclass(row, Budgeted)
    ]
    return [*budgeted, *VARIANTS, *UNBUDGETED]


def measure(task: Task, line: str, best: NDArray[np.int64]) -> dict[str, object]:
    """Reduce and score by one recipe line."""
    recipe = Recipe.parse(line)
    recipe = Recipe(tuple(pair for pair in recipe.methods if pair[0] == "reduce"))
    sample = task.documents.take(sampled(len(task.documents)).to(task.documents.device))
    pipeline = Pipeline.fit(recipe, sample, seed=SEED, vocabulary=task.vocabulary)
    started = perf_counter()
    left = pipeline.reduce(task.documents).batch
    if left.tokens.is_cuda:
        torch.cuda.synchronize()
    seconds = perf_counter() - started
    per_document = float(left.lengths.float().mean())
    return {
        "recipe": line,
        **figures(task, scores(task, left), best),
        "vectors_per_doc": per_document,
        "int8_bytes_per_doc": per_document * (left.dim + 2),
        "reduce_seconds": seconds,
        "device": task.documents.device.type,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--factors", type=int, nargs="*", default=FACTORS)
    parser.add_argument("--methods", nargs="*", help="only lines that begin with one of these")
    parser.add_argument(
        "--without", nargs="*", default=(), help="leave out lines that begin with one of these"
    )
    parser.add_argument("--device", default="cpu", help="where to reduce and score")
    asked = parser.parse_args()
    name = f"reducers-{asked.dataset}"
    kept = common.load(name) or {"rows": []}
    known = {row["recipe"] for row in kept["rows"]}
    task, exact = load_task(asked.dataset, asked.device)
    unreduced = scores(task, task.documents)
    best = top_rows(unreduced)
    kept |= {
        "dataset": asked.dataset,
        "machine": common.machine(),
        "documents": len(task.ids),
        "queries": len(task.query_ids),
        "exact": exact,
        "unreduced": {
            **figures(task, unreduced, best),
            "vectors_per_doc": float(task.documents.lengths.float().mean()),
        },
    }
    for factor in asked.factors:
        for line in lines():
            if asked.methods and not line.startswith(tuple(asked.methods)):
                continue
            if line.startswith(tuple(asked.without)):
                continue
            one = line.replace("{budget}", f"factor={factor}")
            if one in known:
                continue
            try:
                row = measure(task, one, best)
            except ValueError as error:
                print(f"{one}: left out, {error}", file=sys.stderr)
                known.add(one)
                continue
            known.add(one)
            kept["rows"].append(row)
            common.save(name, kept)
            print(
                f"{asked.dataset} {one}: nDCG@10 {row['nDCG@10']:.4f} "
                f"agreement {row['agreement@10']:.3f} vectors {row['vectors_per_doc']:.1f} "
                f"reduce {row['reduce_seconds']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
