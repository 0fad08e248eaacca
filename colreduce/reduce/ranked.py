"""Selectors that give every token a score and keep each document's best."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Selector


@dataclass(frozen=True, kw_only=True)
class Ranked(Selector):
    """Keeps the tokens with the highest scores. Of equal scores the earlier token wins."""

    @abstractmethod
    def score(self, batch: Ragged, state: State) -> Tensor:
        """Return what each token is worth: [t], any real type."""

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark the best tokens of every document."""
        return best(self.score(batch, state), batch, sizes)


def best(scores: Tensor, batch: Ragged, sizes: Tensor) -> Tensor:
    """Mark the ``sizes`` [n] highest of the scores [t] in every document; ties go to the front."""
    items = batch.item_of
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(items[order], stable=True)]
    # The order runs through the items one after the other, so a rank is a position.
    mask = torch.zeros(len(items), dtype=torch.bool, device=batch.device)
    mask[order] = batch.positions < sizes[items]
    return mask
