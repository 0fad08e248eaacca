"""Greedy facility location: one token picked after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from colreduce.reduce.kernels.compiling import I32, I64, Numbers, first_largest, native, weight_of


@native
def facility_location(
    tables: Numbers,
    weights: Numbers,
    nothing: Numbers,
    lengths: Numbers,
    sizes: Numbers,
    turns: Numbers,
    owners: Numbers,
) -> None:
    """Pick ``sizes`` tokens of each document; fill in turns and owners [b, l].

    tables   [b, l, l]         products of the tokens
    weights  [b, l] or [b, 0]  how much each token counts; nothing says all alike
    nothing  [b]               what a token has while nothing is picked
    """
    for item in range(len(lengths)):
        n = lengths[item]
        best = np.full(n, nothing[item], I32)
        table, counts, size = tables[item], weights[item], sizes[item]
        heaviest = 1 if len(counts) == 0 else counts.max()
        if 2 * n * heaviest * -I64(nothing[item]) < 2**31:
            gains32 = np.zeros(n, I32)
            _pick(table, counts, best, gains32, size, turns[item], owners[item])
        else:
            gains64 = np.zeros(n, I64)
            _pick(table, counts, best, gains64, size, turns[item], owners[item])


@native
def _pick(
    table: Any, weights: Any, best: Any, gains: Any, size: int, turn: Any, owner: Any
) -> None:
    """Pick one token after the other, keeping every gain up to date."""
    for candidate in range(len(best)):
        gains[candidate] = _gain(table[candidate], best, weights)
    for step in range(size):
        pick = first_largest(gains)
        row = table[pick]
        for token in range(len(best)):
            if row[token] > best[token]:
                if step:
                    _take(gains, table[token], best[token], row[token], weight_of(weights, token))
                best[token] = row[token]
                owner[token] = step
        if step == 0:  # all tokens came nearer, so that counting anew is quicker
            for candidate in range(len(best)):
                gains[candidate] = _gain(table[candidate], best, weights)
        owner[pick] = turn[pick] = step
        gains[pick] = -1


@native
def _gain(row: Any, best: Any, weights: Any) -> int:
    """Return how much nearer the tokens would be to a candidate than they are now."""
    total = I64(0)
    if len(weights):
        for token in range(len(best)):
            total += weights[token] * max(row[token] - best[token], 0)
    else:
        for token in range(len(best)):
            total += max(row[token] - best[token], 0)
    return total


@native
def _take(gains: Any, row: Any, old: int, new: int, weight: int) -> None:
    """Take away what candidates no longer add now that a token went from ``old`` to ``new``."""
    for candidate in range(len(gains)):
        gains[candidate] -= weight * (min(max(row[candidate], old), new) - old)
