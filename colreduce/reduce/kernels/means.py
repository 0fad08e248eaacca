"""Weighted means of groups of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from colreduce.reduce.kernels.compiling import I64, Numbers, native, vectorised


@native
def means(
    start: int,
    end: int,
    tokens: Numbers,
    rows: Numbers,
    shares: Numbers,
    offsets: Numbers,
    firsts: Numbers,
    lasts: Numbers,
    out: Numbers,
    renormalise: bool,
    cancelled: float,
) -> None:
    """Fill in the weighted mean of every group of the documents ``start`` .. ``end``.

    rows    [t]  the group of each token, below 0 for none; shares [t] how much it counts
    firsts  [n]  the first group of each document; lasts [n] where they end
    out     [g, d]
    """
    for item in range(start, end):
        begin, count = firsts[item], lasts[item] - firsts[item]
        out[begin : begin + count] = 0
        mass = np.zeros(count, np.float64)
        members = np.zeros(count, I64)
        leads = np.zeros(count, I64)
        for token in range(offsets[item], offsets[item + 1]):
            group = rows[token] - begin
            if rows[token] >= 0 and shares[token] > 0:
                if members[group] == 0:
                    leads[group] = token
                members[group] += 1
                mass[group] += shares[token]
                _add_share(out[rows[token]], tokens[token], shares[token])
        for group in range(count):
            mean, lead = out[begin + group], tokens[leads[group]]
            if members[group] == 1:
                mean[:] = lead
                continue
            _shrink(mean, np.float32(1 / mass[group]))
            if renormalise:
                length = np.sqrt(_length(mean))
                if length <= cancelled * np.sqrt(_length(lead)):
                    mean[:] = lead
                else:
                    _shrink(mean, np.float32(1 / length))


@vectorised
def _add_share(total: Any, row: Any, share: Any) -> None:
    for axis in range(len(row)):
        total[axis] += share * row[axis]


@vectorised
def _shrink(row: Any, factor: Any) -> None:
    for axis in range(len(row)):
        row[axis] *= factor


@vectorised
def _length(row: Any) -> Any:
    total = np.float64(0)
    for axis in range(len(row)):
        total += np.float64(row[axis]) * np.float64(row[axis])
    return total
