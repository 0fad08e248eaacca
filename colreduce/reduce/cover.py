"""Greedy facility location picks the seats; each becomes the mean of the tokens nearest to it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger
from colreduce.reduce.greedy import seats


@dataclass(frozen=True, kw_only=True)
class Cover(Merger):
    """Pick the tokens that stand nearest to all tokens, and average what each stands for.

    The seats are picked one at a time, each the one that adds most to the MaxSim of the document
    against its own seats. Then every token goes to the nearest seat, and the seat becomes their
    mean.
    """

    name = "cover"
    paper = "facility location, as in MMTok, arXiv 2508.18264, with means in place of tokens"
    when = "Strong sizes (1/8 and below); what is left stays close to real tokens."

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Give every token the number of the seat nearest to it."""
        return Groups(seats(batch, sizes).owner)
