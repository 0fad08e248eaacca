"""Every first stage: how much of the exact answer is among its candidates, and at what price.

    python -m benchmarks.quality.first_stages --dataset scifact
    python -m benchmarks.quality.first_stages --report

Documents and queries are encoded once (and cached: ``COLREDUCE_CACHE`` names the folder), then
transformed by ``pca(dim=128)``; the reduced sets come from ``ward(factor=8)``. The judge is MaxSim
over the unreduced 128-d vectors, so that nothing but the first stage can lose anything. Results
are kept after every row in ``benchmarks/results/first_stages-DATASET.json``, so that a run that
was stopped goes on where it was; ``--report`` writes the table and the picture of all of them.

A corpus of a few thousand documents would be kept as plain rows by the stores that compress, so
here every segment counts as large. Single queries are timed on one thread, as each worker of a
service has it, and by the processor's own clock, so that other programs do not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import common
from colreduce.candidates import vectors
from colreduce.candidates.base import Documents, FirstStage, Found, Parts, Query, Searcher
from colreduce.candidates.vectors import library
from colreduce.candidates.vectors.indexed import Indexed
from colreduce.embed import load_encoder
from colreduce.errors import MissingDependency
from colreduce.evaluate.collection import load_collection
from colreduce.evaluate.embeddings import EmbeddingStore, cache_folder
from colreduce.evaluate.metrics import score_run
from colreduce.evaluate.scoring import dense, score_all
from colreduce.pipeline import Pipeline
from colreduce.recipe import Recipe

CANDIDATES = (10, 50, 100, 200, 500, 1000)
PREPARE = "pca(dim=128) | ward(factor=8)"
SAMPLE = 2048
SEED = 0
BATCH = 256
ENCODER = "ENCODER"  # stands for the folder of the encoder that made the token vectors

LINES = (
    "mean(store=flat)",
    "mean(store=flat, on=reduced)",
    "mean(store=fp16)",
    "mean(store=sq8)",
    "mean(store=pq)",
    "mean(store=pq4)",
    "mean(store=rabitq)",
    "mean(store=rabitq2)",
    "mean(store=ivf)",
    "mean(store=hnsw)",
    "fde(store=flat)",
    "fde(store=sq8)",
    "fde(store=pq)",
    "fde(store=pq4)",
    "fde(store=rabitq)",
    "fde(store=rabitq2)",
    "fde(store=rabitq_fast)",
    "fde(store=flat, center=on)",
    "fde(store=flat, on=reduced)",
    "fde(store=flat, fill=false)",
    "fde(store=flat, projection=sparse)",
    "fde(store=flat, bits=4)",
    "fde(store=flat, repetitions=10, bits=4)",
    "fde(store=flat, bits=3, inner_dim=8)",
    "fde(store=flat, final_dim=2560)",
    "fde(store=flat, final_dim=2560, final=dense)",
    "fde(store=flat, repetitions=40, bits=6, inner_dim=128, final_dim=10240)",
    "tokens",
    "tokens(score=interaction)",
    "tokens(on=reduced)",
    "lemur(store=flat)",
    "lemur(store=flat, epochs=0)",
    "lemur(store=flat, on=reduced)",
    "lemur(store=flat, width=256)",
    "bm25",
    f'dense(store=flat, model="{ENCODER}")',
    "mean(store=fp16) | bm25 | rrf",
    "mean(store=fp16) | bm25 | blend",
    "fde(store=pq4) | bm25 | rrf",
    "mean(store=fp16) | fde(store=pq4) | blend",
)


@dataclass(frozen=True)
class Task:
    """A collection with the exact scores of every query against every document."""

    documents: Documents
    queries: list[Query]
    ids: list[str]
    query_ids: list[str]
    qrels: dict[str, dict[str, int]]
    scores: NDArray[np.float32]  # [queries, n]

    def best(self, query: int, depth: int) -> NDArray[np.int64]:
        """Return the best rows of a query by exact score."""
        return np.argsort(-self.scores[query], kind="stable")[:depth]


def load_task(name: str) -> Task:
    """Load, transform and reduce a collection, and score it exactly."""
    encoder = load_encoder(common.encoder_folder())
    with EmbeddingStore(cache_folder() / "embeddings") as store:
        found = load_collection(common.data("beir", name), encoder, store)
        whole = found.corpus.embeddings
        documents = whole.span(0, len(whole))
    texts: list[str | None] = [record.text for record in (found.corpus.records or list)()]
    sample = documents.take(_sample(len(documents), 512))
    pipeline = Pipeline.fit(Recipe.parse(PREPARE), sample, seed=SEED)
    tokens = pipeline.transform(documents)
    del documents
    asked = found.queries.with_tokens(pipeline.query(found.queries.tokens))
    queries = [
        Query(vectors, text)
        for vectors, text in zip(asked.unpack(), found.query_texts, strict=True)
    ]
    scores = score_all(asked, tokens.lengths.numpy(), dense(tokens.tokens))
    return Task(
        Documents(tokens, pipeline.reduce(tokens).batch, texts),
        queries,
        list(found.corpus.ids),
        found.query_ids,
        found.qrels,
        scores,
    )


def _sample(count: int, size: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(SEED)
    return torch.randperm(count, generator=draw)[:size].sort().values


def some(documents: Documents, rows: torch.Tensor | slice) -> Documents:
    """Return some of the documents."""
    numbers = torch.arange(len(documents.texts))[rows].tolist()
    return Documents(
        documents.tokens.take(rows),
        documents.reduced.take(rows),
        [documents.texts[number] for number in numbers],
    )


def build(method: FirstStage, task: Task) -> tuple[Searcher, dict[str, float]]:
    """Fit a first stage and build one segment of the whole corpus in memory."""
    started = perf_counter()
    state = method.fit(some(task.documents, _sample(len(task.ids), SAMPLE)), seed=SEED)
    fitted = perf_counter()
    builder = method.builder(state)
    growing: dict[str, list[NDArray[Any]]] = {}
    for start in range(0, len(task.ids), BATCH):
        part = some(task.documents, slice(start, start + BATCH))
        for name, rows in builder.add(part).items():
            growing.setdefault(name, []).append(rows)
    arrays = {name: np.concatenate(rows) for name, rows in growing.items()}
    files: dict[str, NDArray[np.uint8]] = {}
    for name, one in builder.finish().items():
        if callable(one):
            stream = io.BytesIO()
            one(stream)
            files[name] = np.frombuffer(stream.getvalue(), np.uint8)
        else:
            arrays[name] = one
    built = perf_counter()
    # What a FAISS index was trained to know does not grow with the corpus.
    learned = sum(library.serialized(library.emptied(content)).size for content in files.values())
    size = sum(array.nbytes for array in [*arrays.values(), *files.values()]) - learned
    [side] = method.assemble([method.open(Parts(arrays, files, len(task.ids)), state)])
    return side.together, {
        "bytes_per_doc": size / len(task.ids),
        "shared_bytes": learned + float(sum(t.numel() * t.element_size() for t in state.values())),
        "fit_seconds": fitted - started,
        "build_seconds": built - fitted,
    }


def measure(task: Task, line: str) -> dict[str, Any]:
    """Build the first stages of a line, ask every query, and judge the candidates."""
    recipe = Recipe.parse(f"{line.replace(ENCODER, common.encoder_folder())} | maxsim")
    depth = min(max(CANDIDATES), len(task.ids))
    found: list[list[Found]] = []
    costs: dict[str, float] = {}
    milliseconds = np.zeros(len(task.queries))
    for method in recipe.first_stages:
        searcher, cost = build(method, task)
        costs = {name: costs.get(name, 0.0) + value for name, value in cost.items()}
        answers, taken = timed(searcher, task.queries, depth)
        milliseconds += taken
        found.append(answers)
    lists = found[0]
    if recipe.fusion is not None:
        lists = [recipe.fusion.fuse(some_lists, depth) for some_lists in zip(*found, strict=True)]
    return {
        "line": line,
        **costs,
        "p50_ms": float(np.median(milliseconds)),
        "unranked": judged(task, [(one.rows, one.scores) for one in lists]),
        "at": {str(count): at(task, lists, count) for count in CANDIDATES},
    }


def timed(
    searcher: Searcher, queries: Sequence[Query], depth: int
) -> tuple[list[Found], NDArray[np.float64]]:
    """Ask one query after the other on one thread; return answers and milliseconds of processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    library.load_faiss().omp_set_num_threads(1)
    try:
        searcher.search(queries[:3], depth)
        answers: list[Found] = []
        taken = np.zeros(len(queries))
        for place, query in enumerate(queries):
            started = process_time()
            answers += searcher.search([query], depth)
            taken[place] = 1000 * (process_time() - started)
    finally:
        torch.set_num_threads(threads)
        library.load_faiss().omp_set_num_threads(threads)
    return answers, taken


def at(task: Task, lists: Sequence[Found], count: int) -> dict[str, float]:
    """Return the recall of the exact top 10 in ``count`` candidates, and what reranking makes."""
    shares, hits = [], []
    for query, one in enumerate(lists):
        rows = one.rows[:count]
        shares.append(len(set(task.best(query, 10)) & set(rows.tolist())) / 10)
        scores = task.scores[query, rows]
        order = np.argsort(-scores, kind="stable")
        hits.append((rows[order], scores[order]))
    return {"top10": float(np.mean(shares)), **judged(task, hits)}


def judged(
    task: Task, hits: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> dict[str, float]:
    """Return nDCG@10 and R@100 of ranked rows."""
    run = {}
    for query, (rows, scores) in zip(task.query_ids, hits, strict=True):
        pairs = zip(rows[:101].tolist(), scores[:101].tolist(), strict=True)
        run[query] = [(task.ids[row], score) for row, score in pairs if task.ids[row] != query]
    return score_run(("nDCG@10", "R@100"), task.qrels, run)


def exact(task: Task) -> dict[str, float]:
    """Return the metrics of exhaustive MaxSim."""
    hits = []
    for query in range(len(task.queries)):
        rows = task.best(query, 101)
        hits.append((rows, task.scores[query, rows]))
    return judged(task, hits)


def count_all_as_large() -> None:
    """Let the stores compress even a small corpus."""
    for name, store in vectors.VECTOR_STORES.items():
        if isinstance(store, Indexed):
            vectors.VECTOR_STORES[name] = dataclasses.replace(store, small=512, small_floats=0)


def run(dataset: str, wanted: Sequence[str], again: bool) -> None:
    """Measure all lines, or those that begin with one of ``wanted``."""
    name = f"first_stages-{dataset}"
    kept = common.load(name) or {"rows": []}
    count_all_as_large()
    task = load_task(dataset)
    kept |= {
        "dataset": dataset,
        "machine": common.machine(),
        "documents": len(task.ids),
        "queries": len(task.queries),
        "prepare": PREPARE,
        "sample": SAMPLE,
        "exact": exact(task),
        "token_bytes_per_doc": float(task.documents.tokens.lengths.float().mean()) * 128 * 4,
    }
    for line in LINES:
        if wanted and not line.startswith(tuple(wanted)):
            continue
        if any(row["line"] == line for row in kept["rows"]) and not again:
            continue
        try:
            row = measure(task, line) | {"processor": common.machine()["processor"]}
        except MissingDependency as error:
            print(f"{line}: left out, {error}", file=sys.stderr)
            continue
        kept["rows"] = [*(one for one in kept["rows"] if one["line"] != line), row]
        common.save(name, kept)
        recall = " ".join(f"{row['at'][str(count)]['top10']:.3f}" for count in CANDIDATES)
        print(
            f"{dataset} {line}: {row['bytes_per_doc']:.0f} B  top 10 at {CANDIDATES}: {recall}  "
            f"nDCG@10 {row['unranked']['nDCG@10']:.3f} -> {row['at']['100']['nDCG@10']:.3f}  "
            f"{row['p50_ms']:.2f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset")
    parser.add_argument("--lines", nargs="*", default=(), help="only lines that begin so")
    parser.add_argument("--again", action="store_true", help="also those that are known already")
    parser.add_argument("--report", action="store_true", help="write the table and the picture")
    asked = parser.parse_args()
    if asked.dataset:
        run(asked.dataset, asked.lines, asked.again)
    if asked.report:
        from benchmarks.quality.first_stages_report import write

        write()


if __name__ == "__main__":
    main()
