"""Does the planner keep its word? Plans made on some queries, judged by others.

    python -m benchmarks.quality.plan --dataset scifact

A recipe is planned that shall keep 99 % of exact search's nDCG@10. The plan sees the judgements of
another split (SciFact's train, NFCorpus' dev) or, where there is none (Cranfield), of every other
query of the test split. Then an index is built by the recipe, and the test queries, which the
planner has never seen, say what it keeps in truth. ``--keep`` asks for another share, ``--blind``
plans without any judgements, on agreement with exact search. Results stand in
``benchmarks/results/plan-DATASET.json``, one row for each of these ways; ``--report`` writes the
table of all of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from time import process_time
from typing import Any

import numpy as np

from benchmarks import common
from colreduce.embed import load_encoder
from colreduce.evaluate.embeddings import EmbeddingStore
from colreduce.evaluate.measure import embedding_store
from colreduce.evaluate.progress import silent
from colreduce.evaluate.statistics import bootstrap_ratio
from colreduce.plan.built import build
from colreduce.plan.exact import exact_best
from colreduce.plan.measure import Measure
from colreduce.plan.planner import DEPTH, METRIC, QUERIES, plan_for
from colreduce.plan.target import Target
from colreduce.plan.task import Task, load_task
from colreduce.recipe import Recipe

# The split to plan on; None for every other query of the test split.
SPLITS = {"scifact": "train", "nfcorpus": "dev", "cranfield": None}
SEED = 0


def tasks(dataset: str, store: EmbeddingStore, blind: bool, queries: int) -> tuple[Task, Task]:
    """Return what is planned on, and what judges the plan."""
    encoder, folder = load_encoder(common.encoder_folder()), common.data("beir", dataset)

    def load(split: str | None, most: int) -> Task:
        return load_task(
            folder,
            encoder,
            store,
            split=split,
            vectors=None,
            queries=most,
            seed=SEED,
            batch_size=32,
            progress=silent,
        )

    judges, split = load("test", 10**9), SPLITS[dataset]
    every = np.arange(len(judges))
    if blind:
        return load(None, queries), judges
    if split is None:
        return judges.take(every[::2]), judges.take(every[1::2])
    return load(split, queries), judges


def truth(task: Task, plan: dict[str, Any]) -> dict[str, Any]:
    """Measure a plan's recipe on queries that had no part in it."""
    measure = Measure(task, METRIC, exact_best(task, DEPTH, tell))
    recipe, every = Recipe.parse(plan["recipe"]), np.arange(len(task))
    built = build(task, recipe, measure, every, SEED, silent)
    kept = bootstrap_ratio(built.values, measure.exact, SEED)
    return {
        "queries": len(task),
        "metric": METRIC,
        "exact": float(measure.exact.mean()),
        "value": float(built.values.mean()),
        "kept": kept.to_dict(),
        "covered": plan["kept"]["low"] <= kept.value <= plan["kept"]["high"],
        "bytes_per_doc": built.bytes_per_doc,
        "search_ms": built.milliseconds,
    }


def tell(what: str, done: int, total: int) -> None:
    """Say what is done, a line for every step that is long."""
    if not done or "round" in what:
        print(f"{process_time():.0f} s {what} {done} of {total}", file=sys.stderr, flush=True)


def planned(task: Task, keep: float) -> dict[str, Any]:
    """Plan for one collection; return what is kept of it."""
    processor = process_time()
    found = plan_for(task, Target(keep=keep), seed=SEED, progress=tell).to_dict()
    processor = process_time() - processor
    options = [one for one in found.pop("options") if one["front"]]
    return {
        **found,
        "front": options,
        "processor_seconds": processor,
        "load": os.getloadavg()[0],
        "machine": common.machine(),
    }


HEAD = """# Plans and what came of them

Made by `python -m benchmarks.quality.plan`. Kept is the share of exact search's metric: as the plan
states it, by its held-back queries, and in truth, by queries that the plan never saw, with its
interval at 95 %. Bytes are those of a document in the whole index,
beside those of its text. Seconds are those of planning with vectors
that are known, on two cores; behind them the seconds of processor that it took.

| data set | plan on | wanted | recipe | promised | confirmed | truth | covered | bytes | text | s |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def write_report() -> None:
    """Write the table of all results."""
    lines = []
    for dataset in SPLITS:
        for row in (common.load(f"plan-{dataset}") or {"rows": []})["rows"]:
            plan, judged = row["plan"], row.get("truth")
            recipe = plan["recipe"].replace("|", "\\|")
            cells = (
                f"{dataset}, {plan['documents']:,}",
                row["planned_on"],
                f"{row['keep']:.0%} of {plan['metric']}",
                f"`{recipe}`",
                share(plan["kept"]),
                ("yes" if plan["confirmed"] else "no")
                + (f", after {len(plan['refused'])} refused" if plan["refused"] else ""),
                f"{share(judged['kept'])} of {judged['metric']}" if judged else "not judged",
                ("yes" if judged["covered"] else "no") if judged else "-",
                f"{plan['bytes_per_doc']['total']:,.0f}",
                f"{plan['text_bytes_per_doc']:,.0f}",
                f"{plan['seconds']:.0f} ({plan['processor_seconds']:.0f})",
            )
            lines.append(f"| {' | '.join(cells)} |\n")
    (common.RESULTS / "plan.md").write_text(HEAD + "".join(lines), encoding="utf-8")


def share(kept: dict[str, float]) -> str:
    """Write a share with its interval, in percent."""
    low, value, high = (100 * kept[name] for name in ("low", "value", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=sorted(SPLITS))
    parser.add_argument("--report", action="store_true", help="write the table")
    parser.add_argument("--keep", type=float, default=0.99)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--queries", type=int, default=QUERIES, help="to plan on, at most")
    asked = parser.parse_args()
    if asked.dataset:
        measure(asked)
    if asked.report:
        write_report()


def measure(asked: argparse.Namespace) -> None:
    """Plan for one collection and keep the plan; then judge it, and keep that, too."""
    name, blind = f"plan-{asked.dataset}", asked.blind
    row: dict[str, Any] = {"dataset": asked.dataset, "keep": asked.keep, "blind": blind}
    rows = (common.load(name) or {"rows": []})["rows"]
    others = [one for one in rows if (one["keep"], one["blind"]) != (asked.keep, blind)]
    with embedding_store(True) as store:
        task, judges = tasks(asked.dataset, store, blind, asked.queries)
        row["planned_on"] = "documents" if blind else SPLITS[asked.dataset] or "half of test"
        row["plan"] = plan = planned(task, asked.keep)
        common.save(name, {"rows": [*others, row]})
        row["truth"] = judged = truth(judges, plan)
        common.save(name, {"rows": [*others, row]})
    sys.stdout.write(
        f"{asked.dataset}: {plan['recipe']}\n"
        f"  promised {share(plan['kept'])}, confirmed {plan['confirmed']}; in truth "
        f"{share(judged['kept'])}, covered {judged['covered']}\n"
        f"  {plan['bytes_per_doc']['total']:.0f} bytes a document, text "
        f"{plan['text_bytes_per_doc']:.0f}; {plan['seconds']:.0f} s, of processors "
        f"{plan['processor_seconds']:.0f} s\n"
    )


if __name__ == "__main__":
    main()
