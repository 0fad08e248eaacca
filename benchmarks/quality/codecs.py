"""Codecs at equal bytes, and small recipes whole: what is left of quality, on real judgements.

    python -m benchmarks.quality.codecs --dataset nfcorpus

Documents go through ``pca(dim=128)``, a reducer, ``rotate`` or not, and one codec that learns from
512 documents. Every query is scored against every document straight from the codes: there is no
first stage. At ``ward(factor=4)`` every codec is tried; at 1/12 of the vectors the few that leave
a document smaller than its text. ``agreement@10`` is with the vectors after PCA, neither reduced
nor encoded. Results are kept after every row in ``benchmarks/results/codecs-DATASET.json``.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks import common
from benchmarks.quality.reducers import SEED, Task, figures, load_task, sampled, scores, top_rows
from colreduce.evaluate.scoring import score_all
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe

ALL = (
    "fp16",
    "int8",
    "int4(group=32)",
    "int4",
    "residual(bits=4)",
    "residual(bits=2)",
    "residual(bits=1)",
    "pq(parts=64)",
    "pq(parts=32)",
    "pq(parts=16)",
    "pq(parts=32, bits=4)",
    "binary",
)
SMALL = ("fp32", "int8", "int4(group=32)", "residual(bits=4)", "residual(bits=2)", "pq(parts=32)")
TINY = ("fp32", "int4", "residual(bits=2)", "pq(parts=32)")
REDUCED = {
    "ward(factor=4)": ("fp32", *ALL),
    "stopwords | ward(average={twelfth})": TINY,
    "stopwords | cover(average={twelfth})": TINY,
    "stopwords | punctuation | ward(average={twelfth})": TINY,
    "ward(factor=8)": SMALL,
    "ward(factor=12)": SMALL,
    "cover(factor=12)": SMALL,
    'agglomerative(factor=12, linkage="average")': SMALL,
    "words | ward(factor=6)": SMALL,
    "stopwords | ward(factor=6)": SMALL,
    "ward(average={twelfth})": SMALL,
    "cover(average={twelfth})": SMALL,
}


def reduced(task: Task, line: str) -> Ragged:
    """Reduce all documents by one line, what it must know learned from the sample."""
    recipe = Recipe(tuple(pair for pair in Recipe.parse(line).methods if pair[0] == "reduce"))
    sample = task.documents.take(sampled(len(task.documents)))
    pipeline = Pipeline.fit(recipe, sample, seed=SEED, vocabulary=task.vocabulary)
    return pipeline.reduce(task.documents).batch


def measure(task: Task, line: str, left: Ragged, best: Any) -> dict[str, Any]:
    """Encode reduced documents by one line of ``rotate`` and codec, and score from the codes."""
    pipeline = Pipeline.fit(Recipe.parse(line), left.take(sampled(len(left))), seed=SEED)
    codes = pipeline.encode(pipeline.transform(left).tokens)
    queries = task.queries.with_tokens(pipeline.query(task.queries.tokens))

    def products(query: torch.Tensor, rows: slice) -> torch.Tensor:
        return pipeline.similarities(query, {name: part[rows] for name, part in codes.items()})

    got = score_all(queries, left.lengths.numpy(), products)
    each = pipeline.recipe.codec.bytes_per_vector(left.dim)
    vectors = float(left.lengths.float().mean())
    return {
        "codec": line,
        "vectors_per_doc": vectors,
        "bytes_per_vector": each,
        "bytes_per_doc": each * vectors,
        **figures(task, got, best),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--reduced", nargs="*", help="only reducers that begin with one of these")
    asked = parser.parse_args()
    task, exact = load_task(asked.dataset, "cpu")
    unreduced = scores(task, task.documents)
    best = top_rows(unreduced)
    whole = float(task.documents.lengths.float().mean())
    name = f"codecs-{asked.dataset}"
    kept: dict[str, Any] = common.load(name) or {"rows": []}
    kept |= {
        "dataset": asked.dataset,
        "machine": common.machine(),
        "documents": len(task.ids),
        "queries": len(task.query_ids),
        "text_bytes_per_doc": task.text_bytes / len(task.ids),
        "tokens_per_doc": whole,
        "exact": exact,
        "pca": figures(task, unreduced, best),
    }
    known = {(row["reduced"], row["codec"]) for row in kept["rows"]}
    for template, codecs in REDUCED.items():
        if asked.reduced and not template.startswith(tuple(asked.reduced)):
            continue
        line = template.replace("{twelfth}", f"{whole / 12:.0f}")
        lines = [*codecs, *(f"rotate | {codec}" for codec in codecs if codec != "fp32")]
        missing = [codec for codec in lines if (line, codec) not in known]
        left = reduced(task, line) if missing else task.documents
        for codec in missing:
            row = {"reduced": line, **measure(task, codec, left, best)}
            kept["rows"].append(row)
            common.save(name, kept)
            print(
                f"{asked.dataset} {line} | {codec}: {row['bytes_per_doc']:.0f} bytes a document, "
                f"nDCG@10 {row['nDCG@10']:.4f}, agreement {row['agreement@10']:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
