"""Keep the tokens that the encoder itself says are important."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Budgeted
from colreduce.reduce.ranked import Ranked


@dataclass(frozen=True, kw_only=True)
class Importance(Ranked):
    """Keep the tokens with the greatest weight from the encoder, such as the attention received.

    ``sigma`` is a budget of its own: keep the tokens whose weight is above the document's mean by
    more than so many standard deviations, and at least the greatest one. It may be negative.
    """

    name = "importance"
    paper = "Lassance et al. 2021, arXiv 2112.06540; DocPruner, arXiv 2509.23883, for sigma"
    when = "On pages, whose encoders tell attention; sigma=-0.25 keeps about half of a page."
    needs = ("importance",)
    budgets = (*Budgeted.budgets, "sigma")
    sigma: float | None = parameter(
        None, "keep what is more than so many standard deviations above the document's mean"
    )

    def score(self, batch: Ragged, state: State) -> Tensor:
        """Return the encoder's weights."""
        return self._wants(batch, "importance")

    def wanted(self, batch: Ragged, state: State) -> Tensor:
        """Return how many tokens are above the threshold, or what the budget says."""
        if self.sigma is None:
            return super().wanted(batch, state)
        free = batch.positions >= self.protect
        above = free & (self.score(batch, state) > self._threshold(batch, free)[batch.item_of])
        count = torch.zeros_like(batch.lengths).index_add_(0, batch.item_of, above.long())
        return torch.minimum(batch.lengths, self.protect + count.clamp_min(1))

    def _threshold(self, batch: Ragged, free: Tensor) -> Tensor:
        """Return the mean plus ``sigma`` standard deviations of each document: [n] float64."""
        assert self.sigma is not None
        weights, items = self._wants(batch, "importance").double(), batch.item_of
        zeros = torch.zeros(len(batch), dtype=torch.float64, device=batch.device)
        count = zeros.index_add(0, items, free.double()).clamp_min(1)
        mean = zeros.index_add(0, items, weights * free) / count
        squares = ((weights - mean[items]) ** 2) * free
        return mean + self.sigma * (zeros.index_add(0, items, squares) / count).sqrt()
