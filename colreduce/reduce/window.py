"""Runs of neighbouring tokens become one vector."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger


@dataclass(frozen=True, kw_only=True)
class Window(Merger):
    """Average neighbouring tokens.

    The document is cut into as many runs of neighbours as vectors are wanted, as equal as they
    can be. Looks at positions only, never at the vectors.
    """

    name = "window"
    paper = "sequential pooling in Clavié et al. 2024, arXiv 2409.14683"
    when = "The floor that a clustering has to beat; nothing is faster."

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Number each token by the run it stands in."""
        items = batch.item_of
        return Groups(batch.positions * sizes[items] // batch.lengths[items])
