"""How much each token of a document counts, for methods that cluster by weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Merger
from colreduce.reduce.idf import document_frequencies


@dataclass(frozen=True, kw_only=True)
class Weighing(Merger):
    """A merger in which rare or important tokens pull harder than others."""

    weights: str = parameter(
        "idf",
        "what a token counts by: idf (rare in the corpus; needs token_ids), importance (the "
        "encoder's own weight) or uniform",
        choices=("idf", "importance", "uniform"),
    )

    def learn(self, sample: Ragged, *, seed: int, vocabulary: object) -> State:
        """Count in how many documents of the sample each token type is."""
        if self.weights != "idf":
            return {}
        self._wants(sample, "token_ids")
        numbers, counts = document_frequencies(sample)
        return {"ids": numbers, "counts": counts, "documents": torch.tensor([len(sample)])}

    def weigh(self, batch: Ragged, state: State) -> Tensor:
        """Return how much each token counts: [t] float32, above 0 but for unimportant ones."""
        ones = torch.ones(len(batch.tokens), device=batch.device)
        held = ones if batch.weights is None else batch.weights
        if self.weights == "uniform":
            return held
        if self.weights == "importance":
            return self._wants(batch, "importance").float().clamp_min(0)
        return held * inverse_frequencies(batch, self._wants(batch, "token_ids"), state)


def inverse_frequencies(batch: Ragged, token_ids: Tensor, state: State) -> Tensor:
    """Return log(1 + documents / documents with the type): [t] float32.

    A type that the sample did not hold counts as in one document, a special token as in all.
    """
    numbers, counts = state["ids"].to(batch.device), state["counts"].to(batch.device)
    documents = float(state["documents"])
    place = torch.searchsorted(numbers, token_ids).clamp_max(len(numbers) - 1)
    held = torch.where(numbers[place] == token_ids, counts[place], 1).float()
    if batch.special is not None:
        held = held.masked_fill(batch.special, documents)
    return torch.log1p(documents / held)
