"""Agglomerative clustering that stops at the cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from colreduce.reduce.kernels.compiling import BLOCK, Numbers, native, vectorised

WARD, AVERAGE, COMPLETE, SINGLE = range(4)

# Farther than any two groups; small enough for sums of it to stay finite.
FAR = 1e30


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
