"""What to believe of a metric that few queries have measured.

A share of nDCG@10 is known poorly from few queries, and agreement with exact search well. What is
known of how the two go together is taken as a first guess, and the queries correct it, the more of
them the more. So of many recipes the one that a few queries happened to like is not the one that is
believed. The guess comes from the measurements of reducers and codecs in `benchmarks/results`: for
every tenth of the best ten that changes, about one percent of nDCG@10 is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

# Loss of the metric for all of agreement lost, and how far collections and recipes differ in it.
COST, DOUBT = 0.10, 0.06

# No guess and no measurement is surer than this.
SUREST = 0.002


@dataclass(frozen=True, slots=True)
class Belief:
    """A share of exact search's metric, with its standard error."""

    value: float
    error: float


def tempered(measured: Belief, agreement: float) -> Belief:
    """Weigh a measured share against what agreement lets one guess; each by how sure it is."""
    changed = 1 - agreement
    guess = Belief(1 - COST * changed, max(DOUBT * changed, SUREST))
    weight, other = (1 / max(one.error, SUREST) ** 2 for one in (measured, guess))
    value = (weight * measured.value + other * guess.value) / (weight + other)
    return Belief(value, (weight + other) ** -0.5)
