"""Joining the lists of several first stages into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import Found, Fusion, best
from colreduce.method import parameter


@dataclass(frozen=True, kw_only=True)
class Rrf(Fusion):
    """Add up 1 / (k + place) over the lists a document is in.

    Looks at places only, so the lists' scores need not have anything in common.
    """

    name = "rrf"
    paper = "Cormack, Clarke and Büttcher 2009"
    when = "Joining stages of different kinds without tuning."
    k: int = parameter(60, "how little the first places count above the next", low=0)

    def fuse(self, found: Sequence[Found], k: int) -> Found:
        """Return the rows of the largest sums."""
        gains = [1.0 / (self.k + 1 + np.arange(len(one.rows))) for one in found]
        return _added([one.rows for one in found], gains, k)


@dataclass(frozen=True, kw_only=True)
class Blend(Fusion):
    """Add up scores, each list stretched so that its best is 1 and its last is 0.

    A document that a list does not hold gets 0 from it. ``first`` is the share of the first list
    in the sum; the others share the rest equally.
    """

    name = "blend"
    paper = "Fox and Shaw 1994, CombSUM"
    when = "Joining stages whose scores tell more than their order."
    first: float = parameter(0.5, "weight of the first list", low=0, high=1)

    def fuse(self, found: Sequence[Found], k: int) -> Found:
        """Return the rows of the largest sums."""
        rest = (1 - self.first) / max(len(found) - 1, 1)
        weights = [self.first if place == 0 else rest for place in range(len(found))]
        if len(found) == 1:
            weights = [1.0]
        gains = [w * _stretched(one.scores) for w, one in zip(weights, found, strict=True)]
        return _added([one.rows for one in found], gains, k)


def _stretched(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Map scores to 0 for the least and 1 for the largest; equal ones to 1."""
    if not len(scores):
        return np.zeros(0)
    wide = scores.astype(np.float64)
    span = wide.max() - wide.min()
    return (wide - wide.min()) / span if span > 0 else np.ones(len(wide))


def _added(
    rows: Sequence[NDArray[np.int64]], gains: Sequence[NDArray[np.float64]], k: int
) -> Found:
    every = np.concatenate([np.empty(0, np.int64), *rows])
    known, places = np.unique(every, return_inverse=True)
    sums = np.bincount(places, np.concatenate([np.empty(0), *gains]), len(known))
    return best(sums.astype(np.float32), known, k)
