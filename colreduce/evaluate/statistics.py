"""Intervals by the bootstrap: how far a mean over queries would move with other queries.

Queries are drawn again with replacement, as many as there are, and the percentiles of the means of
those draws are the interval (Efron, 1979). A query's values stay together in a draw, so ratios and
differences of two systems are intervals over paired queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from colreduce.errors import BadInput

LEVEL = 0.95
DRAWS = 2000

# Numbers of queries drawn that are held at a time: 64 MB.
BLOCK_DRAWN = 1 << 23


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with the bounds of its interval."""

    low: float
    value: float
    high: float

    def covers(self, value: float) -> bool:
        """Say whether a value lies within the bounds."""
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, float]:
        """Return plain values."""
        return {"low": self.low, "value": self.value, "high": self.high}


def bootstrap(
    values: ArrayLike, seed: int, *, level: float = LEVEL, draws: int = DRAWS
) -> Interval:
    """Return the mean of one value per query, with its interval.

    values  [queries]
    """
    checked = _columns([values])
    means = resampled_means(checked, seed, draws=draws)[:, 0]
    return _interval(float(checked.mean()), means, level)


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    seed: int,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Interval:
    """Return the ratio of two means over the same queries, with its interval.

    Both are one value per query, in the same order. As everywhere in evaluations, nothing is the
    whole of nothing: the ratio is 1 where both means are 0.
    """
    checked = _columns([numerators, denominators])
    means = resampled_means(checked, seed, draws=draws)
    return _interval(float(_ratios(checked.mean(axis=0)[None])[0]), _ratios(means), level)


def resampled_means(
    values: NDArray[np.float64], seed: int, *, draws: int = DRAWS
) -> NDArray[np.float64]:
    """Return the means of queries that were drawn again, the same ones for every column.

    values  [queries, columns]
    returns  [draws, columns]
    """
    generator = np.random.default_rng(seed)
    count = len(values)
    means = np.empty((draws, values.shape[1]))
    block = max(1, BLOCK_DRAWN // count)
    for start in range(0, draws, block):
        some = min(block, draws - start)
        drawn = generator.integers(count, size=(some, count))
        drawn += np.arange(some)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count)
        means[start : start + some] = times @ values / count
    return means


def _ratios(means: NDArray[np.float64]) -> NDArray[np.float64]:
    above, below = means.T
    shares = (above == below).astype(np.float64)
    return np.divide(above, below, out=shares, where=below != 0)


def _interval(value: float, drawn: NDArray[np.float64], level: float) -> Interval:
    if not 0 < level < 1:
        raise BadInput(f"wanted a level between 0 and 1, got {level}", field="level")
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    # Few queries with one that stands out can put all percentiles on one side of the mean.
    return Interval(min(float(low), value), value, max(float(high), value))


def _columns(given: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return values per query side by side, [queries, columns], after a check."""
    columns = [np.asarray(values, dtype=np.float64) for values in given]
    shapes = {column.shape for column in columns}
    if len(shapes) != 1 or columns[0].ndim != 1 or not len(columns[0]):
        shown = ", ".join(str(column.shape) for column in columns)
        raise BadInput(f"wanted one value for each of one or more queries, got shapes {shown}")
    stacked = np.stack(columns, axis=1)
    if not np.isfinite(stacked).all():
        raise BadInput("wanted finite values, got NaN or infinity")
    return stacked
