"""Drop tokens that are common in the corpus, of whole types or document by document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Reduced, Reducer
from colreduce.reduce.ranked import Ranked
from colreduce.reduce.stopwords import drop_tokens


def document_frequencies(sample: Ragged) -> tuple[Tensor, Tensor]:
    """Return the vocabulary numbers in the sample, ascending, and in how many documents each is.

    Special tokens are left out: they are in every document and mean nothing.
    """
    assert sample.token_ids is not None
    pairs = torch.stack([sample.token_ids, sample.item_of], dim=1)
    if sample.special is not None:
        pairs = pairs[~sample.special]
    numbers = torch.unique(pairs, dim=0)[:, 0]
    found, counts = torch.unique(numbers, return_counts=True)
    return found, counts


@dataclass(frozen=True, kw_only=True)
class IdfTypes(Reducer):
    """Drop all vectors of the token types that are in the most documents of the corpus.

    A list of stopwords that the corpus writes by itself; needs no knowledge of the language. A
    document that would lose everything stays as it is.
    """

    name = "idf_types"
    paper = "Acquavia et al. 2023, uniform pruning; arXiv 2112.06540 for IDF in general"
    when = "Before a merger, on text: a third of the vectors for a loss that is hard to measure."
    needs = ("token_ids",)
    types: int = parameter(25, "how many token types to drop", low=1, shown=True)

    def fit(
        self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None = None
    ) -> State:
        """Count in how many documents of the sample each token type is."""
        self._wants(sample, "token_ids")
        numbers, counts = document_frequencies(sample)
        common = torch.argsort(counts, descending=True, stable=True)[: self.types]
        return {"ids": numbers[common].sort().values}

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        return drop_tokens(batch, state["ids"])


@dataclass(frozen=True, kw_only=True)
class IdfPerDoc(Ranked):
    """Keep the tokens of a document that are in the fewest other documents.

    Special tokens are kept before all others. A type that the sample did not hold counts as the
    rarest.
    """

    name = "idf_per_doc"
    paper = "Acquavia et al. 2023, document-centric pruning; Lassance et al., arXiv 2112.06540"
    when = "As the baseline of pruning by rarity; clustering keeps more at the same size."
    needs = ("token_ids",)

    def learn(self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None) -> State:
        """Count in how many documents of the sample each token type is."""
        self._wants(sample, "token_ids")
        numbers, counts = document_frequencies(sample)
        return {"ids": numbers, "counts": counts}

    def score(self, batch: Ragged, state: State) -> Tensor:
        """Return the fewer the better: minus the number of documents that hold the type."""
        wanted = self._wants(batch, "token_ids")
        numbers, counts = state["ids"].to(batch.device), state["counts"].to(batch.device)
        place = torch.searchsorted(numbers, wanted).clamp_max(len(numbers) - 1)
        held = torch.where(numbers[place] == wanted, counts[place], 0)
        return -held if batch.special is None else (-held).masked_fill(batch.special, 1)
