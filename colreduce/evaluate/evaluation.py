"""All that one evaluation found, as the command shows it and writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colreduce.evaluate.averages import Average
from colreduce.evaluate.differences import QueryDifference
from colreduce.evaluate.external import RunRow
from colreduce.evaluate.rows import Row
from colreduce.evaluate.significance import Comparison
from colreduce.evaluate.systems import Contest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Recipes and runs on one or more collections.

    rows         one for each recipe on each collection
    runs         one for each run from outside
    averages     over the collections, where there are several
    comparisons  of every two systems on a collection, by every metric
    worst        the queries that lost most of the first metric, by system
    contests     the rankings and the values of every query behind all this
    """

    metrics: Sequence[str]
    seed: int
    rows: Sequence[Row]
    runs: Sequence[RunRow]
    averages: Sequence[Average]
    comparisons: Sequence[Comparison]
    worst: Sequence[QueryDifference]
    machine: Mapping[str, Any]
    contests: Sequence[Contest]

    def to_dict(self) -> dict[str, Any]:
        """Return the one document that ``evaluate --json`` writes."""
        return {
            "format": 1,
            "rows": [one.to_dict() for one in self.rows],
            "runs": [one.to_dict() for one in self.runs],
            "averages": [one.to_dict() for one in self.averages],
            "comparisons": [one.to_dict() for one in self.comparisons],
            "worst": [one.to_dict() for one in self.worst],
            "seed": self.seed,
            "machine": dict(self.machine),
        }
