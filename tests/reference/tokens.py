"""Candidates by single tokens, document by document: what XTR's imputation says literally."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def imputed_scores(
    query: NDArray[np.float64],
    centroids: NDArray[np.float64],
    filed: list[set[int]],
    probes: int,
    reach: int,
) -> dict[int, float]:
    """Score the documents that a visited list brings more than the imputed similarity.

    filed  the centroids near which each document has a token
    """
    scores = {}
    sizes = [sum(code in codes for codes in filed) for code in range(len(centroids))]
    visited: list[list[int]] = []
    imputed: list[float] = []
    for token in query:
        similar = centroids @ token
        order = sorted(range(len(centroids)), key=lambda code: -similar[code])
        seen, floor = 0, similar[order[-1]]
        for code in order:
            seen += sizes[code]
            if seen >= reach:
                floor = similar[code]
                break
        imputed.append(floor)
        visited.append(order[:probes])
    for document, codes in enumerate(filed):
        total, brought = 0.0, False
        for token, lists, floor in zip(query, visited, imputed, strict=True):
            found = [float(centroids[code] @ token) for code in lists if code in codes]
            brought = brought or any(similarity > floor for similarity in found)
            total += max([floor, *found])
        if brought:
            scores[document] = total
    return scores


def interaction(
    query: NDArray[np.float64], centroids: NDArray[np.float64], codes: set[int]
) -> float:
    """Add up the best similarity of each query token with a document's centroids."""
    return sum(max(float(centroids[code] @ token) for code in codes) for token in query)
