"""Drop tokens by what they are: function words, punctuation, or numbers of the vocabulary."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.errors import BadInput, BadParameter
from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Reduced, Reducer, select
from colreduce.reduce.vocabulary import ENGLISH, numbers_of_punctuation, numbers_of_words


def drop_tokens(batch: Ragged, numbers: Tensor) -> Reduced:
    """Drop the tokens whose vocabulary number is in ``numbers``.

    A document that would lose all its tokens is left as it is. Special tokens are never dropped.
    """
    assert batch.token_ids is not None
    mask = ~torch.isin(batch.token_ids, numbers.to(batch.device))
    if batch.special is not None:
        mask |= batch.special
    left = torch.zeros_like(batch.lengths).index_add_(0, batch.item_of, mask.long())
    return select(batch, mask | (left == 0)[batch.item_of])


@dataclass(frozen=True, kw_only=True)
class _ByNumber(Reducer):
    needs = ("token_ids",)
    ids: str = parameter(
        "",
        "vocabulary numbers to drop besides, divided by commas; enough by themselves where the "
        "tokenizer is not known",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers()

    def _numbers(self) -> list[int]:
        try:
            return [int(number) for number in self.ids.replace(",", " ").split()]
        except ValueError as error:
            raise BadParameter(
                f"{self.name}(ids={self.ids!r}): wanted numbers divided by commas"
            ) from error

    @abstractmethod
    def _look_up(self, vocabulary: Mapping[str, int]) -> list[int]:
        """Return the numbers that the vocabulary gives to what this reducer drops."""

    def fit(
        self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None = None
    ) -> State:
        """Look up in the tokenizer's vocabulary which tokens to drop."""
        numbers = set(self._numbers())
        if vocabulary:
            numbers.update(self._look_up(vocabulary))
        if not numbers:
            raise BadInput(
                f"{self.name} finds nothing to drop: "
                + (
                    "the tokenizer knows none of the words."
                    if vocabulary
                    else 'the tokenizer is not known. Encode with a model, or give ids="...".'
                ),
                field="ids",
            )
        return {"ids": torch.tensor(sorted(numbers))}

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        return drop_tokens(batch, state["ids"])


@dataclass(frozen=True, kw_only=True)
class Stopwords(_ByNumber):
    """Drop the vectors of function words such as "the" and "of".

    A word counts when it is one token of the tokenizer; upper and lower case are the same.
    """

    name = "stopwords"
    paper = "Acquavia et al. 2023, static pruning of multi-representation dense retrieval"
    when = "Before a merger, on English text: a third of the vectors for about 1 % of nDCG."
    words: str = parameter("", "words to drop, divided by spaces; empty: an English list")

    def _look_up(self, vocabulary: Mapping[str, int]) -> list[int]:
        return numbers_of_words(vocabulary, self.words.split() or ENGLISH)


@dataclass(frozen=True, kw_only=True)
class Punctuation(_ByNumber):
    """Drop the vectors of tokens that hold punctuation and symbols only."""

    name = "punctuation"
    paper = "Khattab and Zaharia 2020, arXiv 2004.12832"
    when = "For ColBERT-like models: they were trained without these vectors."

    def _look_up(self, vocabulary: Mapping[str, int]) -> list[int]:
        return numbers_of_punctuation(vocabulary)
