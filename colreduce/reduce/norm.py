"""Keep the longest vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.ranked import Ranked

# Lengths that differ by less are rounding: the vectors were scaled to one length.
SAME = 1e-5


@dataclass(frozen=True, kw_only=True)
class Norm(Ranked):
    """Keep the vectors of the greatest length.

    Only means something for encoders whose vectors differ in length. Vectors that were scaled to
    unit length are all equally long, and then the first ones are kept.
    """

    name = "norm"
    paper = "Zong and Piwowarski 2025, arXiv 2504.12778"
    when = "Only with an encoder trained to write short vectors for tokens that do not matter."

    def score(self, batch: Ragged, state: State) -> Tensor:
        """Return the length of every vector, rounded so that unit vectors are equal."""
        norms: Tensor = batch.tokens.double().norm(dim=1)
        return (norms / SAME).round()
