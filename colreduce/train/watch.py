"""Evaluation during training: exact late interaction on judged queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator

from colreduce.embed.sentence_transformer import LATE_INTERACTION, SentenceTransformerEncoder
from colreduce.evaluate.beir import BeirFolder, check_judged
from colreduce.evaluate.metrics import measures, ranked, score_run
from colreduce.maxsim import maxsim_many
from colreduce.ragged import Ragged


class Watch(BaseEvaluator):  # type: ignore[misc]
    """Measure a model on a collection: every document is scored, nothing is stored.

    Args:
        folder: A folder in BEIR's layout.
        split: Which judgements count.
        metric: By its ir-measures name.
        documents: How many documents are searched, the judged ones first; all if None.
    """

    def __init__(
        self, folder: Path, split: str, metric: str = "nDCG@10", documents: int | None = None
    ) -> None:
        super().__init__()
        source = BeirFolder(folder)
        self.metric, self.qrels = metric, source.qrels(split)
        measures([metric])  # a name that is none is told before the training
        asked = source.queries()
        judged = {one for grades in self.qrels.values() for one in grades}
        records = sorted(source.corpus(), key=lambda record: record.id not in judged)
        there = {record.id for record in records}
        check_judged(self.qrels, source.qrels_path(split), set(asked), there)
        self.queries = {name: asked[name] for name in self.qrels}
        self.documents = {record.id: record.text for record in records[:documents]}
        self.primary_metric = metric

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the metric's mean over the queries."""
        trained, device = model.training, model.device
        model.eval()
        encoder = SentenceTransformerEncoder(model, name="in training", kind=LATE_INTERACTION)
        queries = Ragged.pack(encoder.queries(list(self.queries.values()))).to(device)
        run: dict[str, list[tuple[str, float]]] = {name: [] for name in self.queries}
        ids, start = list(self.documents), 0
        for batch in encoder.documents(self.documents.values()):
            block = batch.to(device)
            scores = maxsim_many(queries, block.tokens, block.lengths).cpu()
            names = ids[start : start + len(batch)]
            for name, row in zip(run, scores, strict=True):
                run[name] += zip(names, row.tolist(), strict=True)
            start += len(batch)
        model.train(trained)
        best = {name: ranked(name, hits)[:1000] for name, hits in run.items()}
        return {self.metric: score_run([self.metric], self.qrels, best)[self.metric]}
