"""What a plan found, as plain values and as a recipe file that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colreduce.evaluate.report.points import front
from colreduce.plan.choice import Refused, Settled
from colreduce.plan.options import Halves, Option
from colreduce.plan.search import Round
from colreduce.plan.target import Target
from colreduce.plan.task import Task
from colreduce.recipe import Recipe

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe and the reasons for it.

    exact    exact search's metric on the held-back queries
    options  every whole recipe that was measured
    """

    task: Task
    target: Target
    metric: str
    settled: Settled
    exact: float
    options: Sequence[Option]
    rounds: Sequence[Round]
    halves: Halves
    seed: int
    seconds: float

    @property
    def recipe(self) -> Recipe:
        """Return the recipe that was chosen."""
        return self.settled.option.recipe

    @property
    def text_bytes_per_doc(self) -> float:
        """Return the size of a document's text; 0 where there are only vectors."""
        return self.task.text_bytes / len(self.task.documents)

    @property
    def raw_bytes_per_doc(self) -> float:
        """Return the bytes of a document's vectors as encoded."""
        documents = self.task.documents
        return float(documents.lengths.mean()) * documents.dim * 4

    def front(self) -> list[Option]:
        """Return the recipes that no other beats in both bytes and quality, the smallest first."""
        options = [
            one
            for one in self.options
            if self.target.max_ms is None or one.milliseconds <= self.target.max_ms
        ] or list(self.options)
        found = front([one.bytes_per_doc for one in options], [one.believed for one in options])
        return [options[one] for one in found]

    def to_dict(self) -> dict[str, Any]:
        """Return the one document that ``plan --json`` writes."""
        settled = self.settled
        leading = {id(one) for one in self.front()}
        return {
            "format": FORMAT,
            "source": self.task.name,
            "documents": len(self.task.documents),
            "queries": {
                "kind": self.task.kind,
                "choosing": len(self.halves.choosing),
                "held_back": len(self.halves.held_back),
            },
            "target": self.target.to_dict(),
            "recipe": str(self.recipe),
            "confirmed": settled.confirmed,
            "metric": self.metric,
            "exact": self.exact,
            "value": float(settled.built.values.mean()),
            "kept": {**settled.kept.to_dict(), "level": settled.level},
            "expected_loss": _loss(settled),
            "bytes_per_doc": settled.built.bytes_per_doc,
            "text_bytes_per_doc": self.text_bytes_per_doc,
            "raw_bytes_per_doc": self.raw_bytes_per_doc,
            "vectors_per_doc": settled.option.vectors_per_doc,
            "search_ms": settled.built.milliseconds,
            "refused": [_refused(one) for one in settled.refused],
            "options": [{**_option(one), "front": id(one) in leading} for one in self.options],
            "rounds": [one.to_dict() for one in self.rounds],
            "seed": self.seed,
            "seconds": self.seconds,
        }


def _loss(settled: Settled) -> dict[str, float]:
    kept = settled.kept
    return {"low": 1 - kept.high, "value": 1 - kept.value, "high": 1 - kept.low}


def _option(option: Option) -> dict[str, Any]:
    return {
        "recipe": str(option.recipe),
        "bytes_per_doc": option.bytes_per_doc,
        "vectors_per_doc": option.vectors_per_doc,
        "search_ms": option.milliseconds,
        "kept": option.chosen_by.to_dict(),
        "believed": option.believed,
        "agreement@10": option.agreement,
    }


def _refused(refused: Refused) -> dict[str, Any]:
    return {
        "recipe": str(refused.option.recipe),
        "bytes_per_doc": refused.option.bytes_per_doc,
        "kept": refused.kept.to_dict(),
        "reason": refused.reason,
    }
