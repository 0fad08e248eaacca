"""Kernels compiled by numba. They take whole buckets, release the GIL and allocate little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Numbers: TypeAlias = NDArray[Any]

I32, I64 = np.int32, np.int64

WARD, AVERAGE, COMPLETE, SINGLE = range(4)

# Farther than any two groups; small enough for sums of it to stay finite.
FAR = 1e30

BLOCK = 64  # numbers compared before looking where the smallest is


def native(function: Function) -> Function:
    """Compile a function on its first call, and keep the compiled code on disk."""
    return cast(Function, njit(nogil=True, cache=True)(function))


def vectorised(function: Function) -> Function:
    """Compile as `native` does, free to reorder sums and not to check for division by zero."""
    options = {"nogil": True, "cache": True, "fastmath": True, "error_model": "numpy"}
    return cast(Function, njit(**options)(function))


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
        pick = _first_largest(gains)
        row = table[pick]
        for token in range(len(best)):
            if row[token] > best[token]:
                if step:
                    _take(gains, table[token], best[token], row[token], _weight(weights, token))
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
def _weight(weights: Any, token: int) -> int:
    return 1 if len(weights) == 0 else weights[token]


@native
def _take(gains: Any, row: Any, old: int, new: int, weight: int) -> None:
    """Take away what candidates no longer add now that a token went from ``old`` to ``new``."""
    for candidate in range(len(gains)):
        gains[candidate] -= weight * (min(max(row[candidate], old), new) - old)


@native
def _first_largest(values: Any) -> int:
    """Return the place of the first largest of whole numbers."""
    largest, block = values[0], 0
    for start in range(0, len(values), BLOCK):
        most = _most(values[start : min(start + BLOCK, len(values))])
        if most > largest:
            largest, block = most, start
    for place in range(block, len(values)):
        if values[place] == largest:
            return place
    return 0


@native
def _most(values: Any) -> Any:
    most = values[0]
    for place in range(len(values)):
        most = max(most, values[place])
    return most


@native
def move_centres(
    products: Numbers,
    tokens: Numbers,
    weights: Numbers,
    lengths: Numbers,
    sizes: Numbers,
    labels: Numbers,
    centres: Numbers,
    moved: Numbers,
) -> None:
    """Give every token to the nearest centre, and every centre to the mean of its tokens.

    products  [b, l, k] int32  products of tokens and centres
    tokens    [b, l, d] int8
    weights   [b, l] or [b, 0]  how much each token pulls; nothing says all alike
    labels    [b, l]            overwritten; centres [b, k, d] int8 likewise
    moved     [b]               filled: did any token change its centre
    """
    for item in range(len(lengths)):
        length, size = lengths[item], sizes[item]
        moved[item] = _assign(products[item], length, size, labels[item])
        if moved[item]:
            _average(tokens[item], weights[item], length, size, labels[item], centres[item])


@native
def _assign(products: Any, length: int, size: int, labels: Any) -> bool:
    moved = False
    counts = np.zeros(size, I64)
    found = np.empty(length, I64)
    for token in range(length):
        nearest = _first_largest(products[token, :size])
        counts[nearest] += 1
        found[token] = nearest
    if counts.min() == 0:
        _fill(products, found, counts)
    for token in range(length):
        moved |= labels[token] != found[token]
        labels[token] = found[token]
    return moved


@native
def _fill(products: Any, labels: Any, counts: Any) -> None:
    """Give the centres without tokens the worst served ones; every group keeps its best."""
    best = np.full(len(counts), -1, I64)
    near = np.empty(len(labels), I64)
    for token in range(len(labels)):
        label = labels[token]
        near[token] = products[token, label]
        if best[label] < 0 or near[token] > near[best[label]]:
            best[label] = token
    order = np.argsort(near, kind="mergesort")
    place = 0
    for centre in range(len(counts)):
        if counts[centre] == 0:
            while best[labels[order[place]]] == order[place]:
                place += 1
            labels[order[place]] = centre
            place += 1


@native
def _average(tokens: Any, weights: Any, length: int, size: int, labels: Any, centres: Any) -> None:
    """Round the directions of the groups' means: the largest coordinate of all becomes 127."""
    sums = np.zeros((size, tokens.shape[1]), I32)
    for token in range(length):
        _add_to(sums[labels[token]], tokens[token], _weight(weights, token))
    norms = np.empty(size, np.float64)
    largest = 1e-6
    for centre in range(size):
        norms[centre] = max(np.sqrt(np.float64(_square(sums[centre]))), 1.0)
        largest = max(largest, _farthest(sums[centre]) / norms[centre])
    scale = min(127 / largest, 4000.0)
    for centre in range(size):
        _scale(sums[centre], scale / norms[centre], centres[centre])


@native
def _add_to(total: Any, row: Any, weight: Any) -> None:
    for axis in range(len(row)):
        total[axis] += weight * I32(row[axis])


@native
def _square(row: Any) -> int:
    total = I64(0)
    for axis in range(len(row)):
        total += I64(row[axis]) * I64(row[axis])
    return total


@native
def _farthest(row: Any) -> int:
    """Return the largest whole number of a row, whatever its sign."""
    most = I32(0)
    for axis in range(len(row)):
        most = max(most, max(row[axis], -row[axis]))
    return most


@vectorised
def _scale(row: Any, factor: float, out: Any) -> None:
    for axis in range(len(row)):
        out[axis] = np.rint(row[axis] * factor)


@native
def agglomerate(
    tables: Numbers,
    bits: Numbers,
    lengths: Numbers,
    sizes: Numbers,
    linkage: int,
    ties: bool,
    labels: Numbers,
) -> None:
    """Merge the nearest two groups of each document until ``sizes`` are left.

    tables   [b, l, l]  distances, not negative, squared for Ward; overwritten
    bits     [b, l, l]  the same memory as whole numbers, which are in the same order and which
                        the compiler can search several at a time
    ties     also make the merges that are as near as the last one; if not, then only merges of
             groups with no distance between them
    labels   [b, l]     filled with the number of one token of the token's group
    """
    for item in range(len(lengths)):
        _cluster(tables[item], bits[item], lengths[item], sizes[item], linkage, ties, labels[item])


@native
def agglomerate_products(
    products: Numbers,
    tables: Numbers,
    lengths: Numbers,
    sizes: Numbers,
    linkage: int,
    labels: Numbers,
) -> None:
    """Do as `agglomerate` does, by half the squared distances of tokens with given products.

    products  [b, l, l] int32; overwritten
    tables    [b, l, l] float32, the same memory
    """
    for item in range(len(lengths)):
        count = lengths[item]
        halves = np.empty(count, np.float32)
        for token in range(count):
            halves[token] = np.float32(products[item, token, token]) * np.float32(0.5)
        for token in range(count):
            _to_distances(products[item, token], tables[item, token], halves, halves[token])
        _cluster(tables[item], products[item], count, sizes[item], linkage, False, labels[item])


@vectorised
def _to_distances(products: Any, distances: Any, halves: Any, half: float) -> None:
    for other in range(len(halves)):
        distances[other] = half + halves[other] - np.float32(products[other])


@native
def _cluster(
    table: Any, bits: Any, length: int, size: int, linkage: int, ties: bool, labels: Any
) -> None:
    parents = np.arange(length)
    _merge_nearest(table, bits, parents, size, linkage, ties)
    for token in range(length):
        root = token
        while parents[root] != root:
            root = parents[root]
        labels[token] = root


@native
def _merge_nearest(
    table: Any, bits: Any, parents: Any, size: int, linkage: int, ties: bool
) -> None:
    """Merge until few enough groups are left. Groups live in the slots 0 .. ``count``.

    For every slot the nearest other one is remembered. Where that one was merged away, the
    distance that is remembered is a lower bound, for no linkage here brings groups nearer: the
    row is only searched again when the bound is the smallest of all.
    """
    count = len(parents)
    heads = np.arange(count)  # one token of each group
    counts = np.ones(count, table.dtype)
    nearest = np.empty(count, np.int32)
    distance = np.empty(count, bits.dtype)
    stale = np.zeros(count, np.bool_)
    for slot in range(count):
        table[slot, slot] = FAR
        nearest[slot] = _smallest(bits[slot], count)
        distance[slot] = bits[slot, nearest[slot]]
    height = distance[0] * 0
    while count > 1:
        one = _smallest(distance, count)
        if stale[one]:
            nearest[one] = _smallest(bits[one], count)
            distance[one] = bits[one, nearest[one]]
            stale[one] = False
            continue
        if count <= size and distance[one] > (height if ties else 0):
            break
        height = distance[one]
        keep, gone = min(one, nearest[one]), max(one, nearest[one])
        parents[heads[gone]] = heads[keep]
        _join(table, counts, keep, gone, count, linkage)
        counts[keep] += counts[gone]
        count -= 1
        for slot in range(count + 1):
            near = nearest[slot]
            stale[slot] |= (near == keep) | (near == gone)
            if near == count:
                nearest[slot] = gone
        # The last slot moves into the one that came free.
        heads[gone], counts[gone] = heads[count], counts[count]
        nearest[gone], distance[gone], stale[gone] = nearest[count], distance[count], stale[count]
        nearest[keep] = _smallest(bits[keep], count)
        distance[keep] = bits[keep, nearest[keep]]
        stale[keep] = False


@native
def _join(table: Any, counts: Any, keep: int, gone: int, count: int, linkage: int) -> None:
    """Write the distances of a new group to ``keep``, and the last slot's to ``gone``."""
    left, right = table[keep], table[gone]
    _combine(left, right, counts, counts[keep], counts[gone], left[gone], count, linkage)
    last = table[count - 1]
    last[keep] = left[count - 1]
    right[:count] = last[:count]
    for slot in range(count):
        row = table[slot]
        row[keep] = left[slot]
        row[gone] = last[slot]
    left[gone] = right[keep] = last[keep]
    left[keep] = right[gone] = FAR


@vectorised
def _combine(
    left: Any,
    right: Any,
    counts: Any,
    one: float,
    other: float,
    between: float,
    count: int,
    linkage: int,
) -> None:
    """Overwrite ``left`` with the distances from the union to every group."""
    zero = left.dtype.type(0)
    if linkage == WARD:
        both = one + other
        for slot in range(count):
            third = counts[slot]
            grown = (one + third) * left[slot] + (other + third) * right[slot] - third * between
            left[slot] = (grown if grown > zero else zero) / (both + third)
    elif linkage == AVERAGE:
        both = one + other
        for slot in range(count):
            left[slot] = (one * left[slot] + other * right[slot]) / both
    elif linkage == COMPLETE:
        for slot in range(count):
            left[slot] = right[slot] if right[slot] > left[slot] else left[slot]
    else:
        for slot in range(count):
            left[slot] = right[slot] if right[slot] < left[slot] else left[slot]


@native
def _smallest(values: Any, count: int) -> int:
    """Return the place of the first smallest of ``count`` whole numbers."""
    smallest, block = values[0], 0
    for start in range(0, count, BLOCK):
        least = _least(values[start : min(start + BLOCK, count)])
        if least < smallest:
            smallest, block = least, start
    for place in range(block, count):
        if values[place] == smallest:
            return place
    return 0


@native
def _least(values: Any) -> Any:
    least = values[0]
    for place in range(len(values)):
        least = min(least, values[place])
    return least
