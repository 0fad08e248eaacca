"""How far a mean over queries can be trusted: intervals by the bootstrap, and paired tests.

For an interval, queries are drawn again with replacement, as many as there are, and the
percentiles of the means of those draws are its bounds (Efron, 1979). A query's values stay together
in a draw, so ratios and differences of two systems are intervals over paired queries.

A paired test asks how often a difference this large comes about when the two systems are equally
good: by flipping the signs of the queries' differences (Fisher's randomisation), or by Student's t.
Many tests find differences by chance; `holm` corrects their p-values for the number of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from colreduce.errors import BadInput

LEVEL = 0.95
DRAWS = 2000

# Numbers of queries drawn that are held at a time: 64 MB.
BLOCK_DRAWN = 1 << 23

# Sign flips of a randomisation test: p-values down to 5e-5, those at 0.05 known to about 0.003.
FLIPS = 20_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with the bounds of its interval."""

    low: float
    value: float
    high: float

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


def bootstrap_columns(
    values: NDArray[np.float64], seed: int, *, level: float = LEVEL, draws: int = DRAWS
) -> list[Interval]:
    """Return the mean of each column with its interval, over the same draws of queries.

    values  [queries, columns]
    """
    checked = _checked(values)
    means = resampled_means(checked, seed, draws=draws)
    return [
        _interval(float(value), column, level)
        for value, column in zip(checked.mean(axis=0), means.T, strict=True)
    ]


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


def bootstrap_change(
    before: Mapping[float, float], after: Mapping[float, float], seed: int
) -> tuple[Interval, Interval, Interval]:
    """Return the mean before, the mean after, and the difference, each with its interval.

    Both are values by query. Queries that have a value at both times are drawn again together, so
    what did not change makes the difference no less certain.
    """
    queries = sorted({*before, *after})
    table = np.zeros((len(queries), 4))
    for row, query in enumerate(queries):
        for column, values in ((0, before), (2, after)):
            if query in values:
                table[row, column : column + 2] = values[query], 1.0
    drawn, whole = resampled_means(table, seed), table.mean(axis=0)
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    means = [
        _interval(float(whole[c] / whole[c + 1]), drawn[:, c] / drawn[:, c + 1], LEVEL)
        for c in (0, 2)
    ]
    gaps = drawn[:, 2] / drawn[:, 3] - drawn[:, 0] / drawn[:, 1]
    return means[0], means[1], _interval(means[1].value - means[0].value, gaps, LEVEL)


def bootstrap_average_ratio(
    tables: Sequence[NDArray[np.float64]], weights: ArrayLike, seed: int
) -> Interval:
    """Return the weighted mean of several collections' ratios of means, with its interval.

    tables   one for each collection, [queries, 2]: numerators and denominators
    weights  [collections]; add up to 1

    Every collection draws again among its own queries.
    """
    shares = np.asarray(weights, dtype=np.float64)
    checked = [_checked(table) for table in tables]
    value = shares @ [_ratios(table.mean(axis=0)[None])[0] for table in checked]
    drawn = [_ratios(resampled_means(table, seed + number)) for number, table in enumerate(checked)]
    return _interval(float(value), shares @ np.stack(drawn), LEVEL)


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


def randomisation_tests(
    gaps: NDArray[np.float64], seed: int, *, flips: int = FLIPS
) -> NDArray[np.float64]:
    """Return the two-sided p-value of Fisher's randomisation test on each column's mean.

    gaps     [queries, columns]   a column holds the differences of two systems, query by query
    returns  [columns]

    If two systems are equally good, each query's difference could as well have had the other sign:
    p is the share of assignments of signs whose mean is at least as far from 0 as the one seen. All
    are tried where there are no more than ``flips``; otherwise so many are drawn, the same for
    every column, and the assignment that was seen counts as one of them.
    """
    checked = _checked(gaps)
    # Sums of the same numbers in another order differ by rounding.
    wanted = np.abs(checked.sum(axis=0)) * (1 - 1e-12)
    found = np.empty(checked.shape[1])
    few = np.count_nonzero(checked, axis=0) <= np.log2(flips)
    for column in np.flatnonzero(few):
        moving = checked[checked[:, column] != 0, column]  # without a difference, no sign to flip
        found[column] = np.mean(np.abs(_all_signs(len(moving)) @ moving) >= wanted[column])
    if not few.all():
        found[~few] = _drawn(checked[:, ~few], wanted[~few], seed, flips)
    return found


def _drawn(
    gaps: NDArray[np.float64], wanted: NDArray[np.float64], seed: int, flips: int
) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    far, block = np.zeros(gaps.shape[1]), max(1, BLOCK_DRAWN // len(gaps))
    for start in range(0, flips, block):
        some = min(block, flips - start)
        drawn = generator.integers(256, size=(some, -(-len(gaps) // 8)), dtype=np.uint8)
        flipped = np.unpackbits(drawn, axis=1, count=len(gaps)).astype(np.float64)
        # The sum with some signs flipped is the sum without them, less theirs.
        far += (np.abs(gaps.sum(axis=0) - 2 * (flipped @ gaps)) >= wanted).sum(axis=0)
    return np.asarray((far + 1) / (flips + 1))


def _all_signs(count: int) -> NDArray[np.float64]:
    """Return every assignment of signs: [2 ** count, count]."""
    bits = np.arange(1 << count)[:, None] >> np.arange(count) & 1
    return np.asarray(2.0 * bits - 1)


def t_tests(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two-sided p-value of the paired t-test on each column's mean.

    gaps  [queries, columns], as for `randomisation_tests`

    A column whose differences are all alike has no spread to weigh them against: 1 where they are
    0 or where there is only one query, else 0.
    """
    from scipy.special import stdtr  # scipy.stats takes seconds to import

    checked = _checked(gaps)
    alike = np.ptp(checked, axis=0) == 0
    unknown = (checked[0] == 0) | (len(checked) == 1)
    found = np.where(unknown, 1.0, 0.0)
    if not alike.all():
        moving, root = checked[:, ~alike], np.sqrt(len(checked))
        t = moving.mean(axis=0) / (moving.std(axis=0, ddof=1) / root)
        found[~alike] = 2 * stdtr(len(checked) - 1, -np.abs(t))
    return found


def _checked(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    return _columns(list(np.asarray(gaps, dtype=np.float64).T))


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (1979), in the order given.

    At most one in twenty families of tests then holds a corrected value below 0.05 by chance.
    """
    found = np.asarray(values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    scaled = found[order] * np.arange(len(found), 0, -1)
    corrected = np.empty(len(found))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in corrected]


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
