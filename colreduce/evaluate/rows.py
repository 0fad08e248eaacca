"""What an evaluation says of one recipe on one collection. Plain values, nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from colreduce.evaluate.statistics import Interval
from colreduce.recipe import PRESETS

AGREEMENT = "agreement@10"

# The name of exact search among the systems.
EXACT = "exact"

# Intervals by the name of a metric.
Intervals = Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Loss:
    """What is left after one stage: the metrics of its ranking, and its overlap with exact.

    lost  what this stage itself cost, each metric's value before it less the one after it
    """

    stage: str
    metrics: Mapping[str, float]
    agreement: float
    lost: Intervals = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        lost = {name: one.to_dict() for name, one in self.lost.items()}
        return {"stage": self.stage, **self.metrics, AGREEMENT: self.agreement, "lost": lost}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Loss:
        """Read what `to_dict` returned."""
        apart = ("stage", AGREEMENT, "lost")
        metrics = {name: value for name, value in values.items() if name not in apart}
        return cls(values["stage"], metrics, values[AGREEMENT], _intervals(values["lost"]))


@dataclass(frozen=True, slots=True)
class Row:
    """What one recipe is worth on one collection, and what it costs.

    relative            the metrics as shares of those of exact search over the same vectors
    losses              cumulative, from exact search to what the index answers
    first_stage_alone   the metrics of the first stage's own order, without any reranking
    intervals           of the metrics, and of the relative ones, over the queries
    measured            when, as UTC; and whether it was found among the kept results
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
    intervals: Intervals = field(default_factory=dict)
    relative_intervals: Intervals = field(default_factory=dict)
    group: str = ""
    measured: str = ""
    cached: bool = False

    @property
    def system(self) -> str:
        """Return the name under which comparisons know this row."""
        return EXACT if self.recipe == PRESETS[EXACT] else self.recipe

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``evaluate --json`` writes them."""
        return {**asdict(self), "losses": [loss.to_dict() for loss in self.losses]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Read what `to_dict` returned."""
        row = cls(**values)
        return replace(
            row,
            losses=[Loss.from_dict(one) for one in values["losses"]],
            intervals=_intervals(values["intervals"]),
            relative_intervals=_intervals(values["relative_intervals"]),
        )


def _intervals(values: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: Interval(**one) for name, one in values.items()}
