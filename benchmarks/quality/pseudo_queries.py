"""How well queries drawn from documents predict what real queries lose.

    python -m benchmarks.quality.pseudo_queries --dataset nfcorpus
    python -m benchmarks.quality.pseudo_queries --report

The ledger of an index without queries is measured on sentences of its documents, or on runs of
their vectors. Here the same recipes are measured on those and on the real queries of a judged
collection: how much of exact search's best ten is left, by each kind, and whether they put the
recipes in the same order. Reductions and codecs only, as in `benchmarks.quality.reducers`. Results
stand in ``benchmarks/results/pseudo-DATASET.json``; ``--report`` writes ``pseudo.md``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import common
from colreduce.embed import load_encoder
from colreduce.evaluate.collection import Collection, load_collection
from colreduce.evaluate.embeddings import EmbeddingStore, cache_folder
from colreduce.evaluate.held_out import QUERIES, Asking, draw
from colreduce.evaluate.ledger import Ranking, StageRanker
from colreduce.evaluate.sample import SAMPLE, reservoir
from colreduce.evaluate.scoring import overlaps
from colreduce.evaluate.statistics import bootstrap
from colreduce.pipeline import Pipeline
from colreduce.recipe import Recipe

RECIPES = (
    "pca(dim=128) | int8",
    "pca(dim=64) | int8",
    "pca(dim=128) | ward(factor=4) | int8",
    "pca(dim=128) | ward(factor=8) | int8",
    "pca(dim=128) | ward(factor=16) | int8",
    "pca(dim=128) | ward(factor=32) | int8",
    "pca(dim=128) | cover(factor=8) | int8",
    "pca(dim=128) | kmeans(factor=16) | int8",
    "pca(dim=128) | window(factor=8) | int8",
    "pca(dim=128) | first(factor=8) | int8",
    "pca(dim=128) | random(factor=4) | int8",
    "pca(dim=128) | rotate | ward(factor=8) | pq(parts=32)",
    "pca(dim=128) | ward(factor=8) | binary",
)
DEPTH, SEED, BLOCK = 10, 0, 1 << 17
DATASETS = ("scifact", "nfcorpus", "cranfield")


def askings(found: Collection, sample: Sequence[int]) -> dict[str, Asking | None]:
    """Return the drawn queries by kind; None stands for the real ones."""
    wanted = set(sample)
    assert found.corpus.records is not None
    texts = [r.text for n, r in enumerate(found.corpus.records()) if n in wanted]
    ids = [found.corpus.ids[number] for number in sample]
    vectors = found.corpus.embeddings.take(sample)
    return {
        "real": None,
        "sentences": draw(ids, vectors, texts, found.encoder, SEED),
        "spans": draw(ids, vectors, None, None, SEED),
    }


def kept(
    found: Collection,
    pipeline: Pipeline,
    asked: dict[str, Asking | None],
    exact: dict[str, Ranking],
) -> dict[str, Any]:
    """Return for each kind of query what is left of exact search's best, with its interval.

    exact  what exact search found, by kind; it is found the first time
    """
    places = {one: row for row, one in enumerate(found.corpus.ids)}
    rankers, hidden = {}, {}
    for kind, asking in asked.items():
        queries = found.queries if asking is None else asking.vectors
        rankers[kind] = StageRanker(pipeline, queries, DEPTH, exact=exact.get(kind))
        sources = [] if asking is None else [places[one] for one in asking.sources]
        hidden[kind] = list(enumerate(sources))
    for start, block in found.corpus.embeddings.blocks(BLOCK):
        passed, stop = pipeline.passed(block), start + len(block)
        for kind, ranker in rankers.items():
            here = [(query, row - start) for query, row in hidden[kind] if start <= row < stop]
            ranker.see(start, passed, here)
    told = {}
    for kind, ranker in rankers.items():
        rankings = ranker.finish().rankings
        exact[kind] = rankings[0]
        left = overlaps(rankings[-1].rows, rankings[0].rows)
        told[kind] = bootstrap(left, SEED).to_dict()
    return told


def run(dataset: str) -> None:
    """Measure every recipe on one collection."""
    name = f"pseudo-{dataset}"
    result = common.load(name) or {"rows": []}
    known = {row["recipe"] for row in result["rows"]}
    encoder = load_encoder(common.encoder_folder())
    with EmbeddingStore(cache_folder() / "embeddings") as store:
        found = load_collection(common.data("beir", dataset), encoder, store)
        sample = sorted(reservoir(range(len(found.corpus.ids)), SAMPLE, SEED))
        asked, exact = askings(found, sample), dict[str, Ranking]()
        result |= {"dataset": dataset, "machine": common.machine(), "drawn": QUERIES}
        result["queries"] = len(found.query_ids)
        for line in RECIPES:
            if line in known:
                continue
            recipe = Recipe.parse(line)
            stages = ("transform", "reduce", "codec")
            recipe = Recipe(tuple(pair for pair in recipe.methods if pair[0] in stages))
            pipeline = Pipeline.fit(recipe, found.corpus.embeddings.take(sample), seed=SEED)
            row = {"recipe": line, **kept(found, pipeline, asked, exact)}
            result["rows"].append(row)
            common.save(name, result)
            print(dataset, line, {k: round(v["value"], 3) for k, v in row.items() if k != "recipe"})


def ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value."""
    return [float(rank) for rank in np.argsort(np.argsort(values))]


def report() -> None:
    """Write the table of all collections."""
    lines = [
        "# Do queries drawn from documents predict what real ones lose?",
        "",
        "Written by `python -m benchmarks.quality.pseudo_queries --report`. Shares of exact "
        "search's best ten that are left, in percent, with 95 % intervals, by kind of query.",
        "",
    ]
    for dataset in DATASETS:
        result = common.load(f"pseudo-{dataset}")
        if result is None:
            continue
        rows = result["rows"]
        lines += [
            f"## {dataset}: {result['queries']} real queries, {result['drawn']} drawn ones",
            "",
            "| recipe | real | sentences | spans |",
            "|---|---|---|---|",
        ]
        for row in rows:
            cells = [
                "{:.1f} ({:.1f} to {:.1f})".format(
                    *(100 * row[kind][part] for part in ("value", "low", "high"))
                )
                for kind in ("real", "sentences", "spans")
            ]
            recipe = row["recipe"].replace("|", "\\|")
            lines.append(f"| `{recipe}` | " + " | ".join(cells) + " |")
        lines.append("")
        real = [row["real"]["value"] for row in rows]
        for kind in ("sentences", "spans"):
            drawn = [row[kind]["value"] for row in rows]
            gaps = [100 * (b - a) for a, b in zip(real, drawn, strict=True)]
            order = statistics.correlation(ranks(real), ranks(drawn))
            lines.append(
                f"- {kind}: rank correlation with real queries {order:.2f}; "
                f"{statistics.mean(gaps):+.1f} points on average, from {min(gaps):+.1f} to "
                f"{max(gaps):+.1f}"
            )
        lines.append("")
    (common.RESULTS / "pseudo.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=DATASETS)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    if asked.dataset:
        run(asked.dataset)
    if asked.report:
        report()


if __name__ == "__main__":
    main()
