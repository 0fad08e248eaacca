"""Vectors that stand for no part of the document."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Reduced, Reducer, select


@dataclass(frozen=True, kw_only=True)
class Markers(Reducer):
    """Drop the vectors of markers: [CLS] and its like, and the prompt around a page's patches.

    A document that consists of markers alone is left as it is.
    """

    name = "markers"
    when = (
        "Before a merger on pages, so that the prompt takes none of their few vectors. Models are "
        "trained with these vectors: measure it."
    )
    needs = ("special",)

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        keep = ~self._wants(batch, "special")
        left = torch.zeros_like(batch.lengths).index_add_(0, batch.item_of, keep.long())
        return select(batch, keep | (left == 0)[batch.item_of])
