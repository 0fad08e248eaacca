"""Reranking with candidate pruning and early exit, one candidate at a time."""

from __future__ import annotations

import heapq

import numpy as np


def rerank(
    first: np.ndarray, exact: np.ndarray, k: int, prune: float | None, patience: int | None
) -> tuple[list[int], int]:
    """Return the best positions, best first, and how many candidates had to be scored."""
    kept = list(range(len(first)))
    if prune is not None and k < len(first):
        last = float(first[k - 1])
        threshold = np.float32(last - prune * abs(last))
        kept = [one for one in kept if one < k or first[one] >= threshold]
    if len(set(first.tolist())) <= 1:
        patience = None
    heap: list[tuple[float, int]] = []  # the worst of the best on top; of equals, the later one
    scored = failures = 0
    for one in kept:
        scored += 1
        if len(heap) < k:
            heapq.heappush(heap, (float(exact[one]), -one))
        elif float(exact[one]) > heap[0][0]:
            heapq.heapreplace(heap, (float(exact[one]), -one))
            failures = 0
        else:
            failures += 1
            if failures == patience:
                break
    return [-one for _, one in sorted(heap, key=lambda pair: (-pair[0], -pair[1]))], scored


def once_more(
    first: list[float], whole: list[float], count: int, k: int
) -> list[tuple[int, float]]:
    """Return the best positions by what they score over whole vectors, with that score.

    first  scores over the stored vectors, whole over all of them; the best ``count`` of the first,
           or as many as are wanted if that is more, are scored once more
    """
    ranked = sorted(range(len(first)), key=lambda one: -first[one])[: max(count, k)]
    again = sorted(ranked, key=lambda one: -whole[one])
    return [(one, whole[one]) for one in again[:k]]
