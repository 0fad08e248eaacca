"""Keep the tokens that the others find near."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Selector
from colreduce.reduce.greedy import facility_location


@dataclass(frozen=True, kw_only=True)
class Coverage(Selector):
    """Keep adding the token that brings the document's tokens nearest to what is kept.

    What is made large is the MaxSim of the whole document, as a query, against the tokens kept;
    choosing greedily comes within 1 - 1/e of the best choice.
    """

    name = "coverage"
    paper = "facility location, as in MMTok, arXiv 2508.18264"
    when = "The first selector to try where the kept vectors must be real tokens."

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark the tokens that were picked."""
        return facility_location(batch, sizes) >= 0
