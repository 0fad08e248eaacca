"""The pieces of a word become one vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State, parameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Reduced, Reducer, merge

# An odd number to spread the numbers of a word's pieces over 64 bits.
SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)


@dataclass(frozen=True, kw_only=True)
class Words(Reducer):
    """Average the sub-words of every word.

    The words of the text decide how many vectors are left, so there is no budget. Tokens that are
    part of no word stay as they are. ``unique`` also merges words that occur again.
    """

    name = "words"
    paper = "ColBERTer (BOW2), arXiv 2203.13088"
    when = "Before another reducer on text, and where explanations should name whole words."
    needs = ("word_ids",)
    unique: bool = parameter(False, "merge the occurrences of a word too (needs token_ids)")
    renormalise: bool = parameter(True, "scale the means back to unit length")

    def reduce(self, batch: Ragged, state: State) -> Reduced:
        """Check the batch and make it smaller."""
        if self.unique:
            self._wants(batch, "token_ids")
        return super().reduce(batch, state)

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        words = self._wants(batch, "word_ids")
        labels = _first_places(batch, words, words >= 0)
        if self.unique:
            spelling = _spellings(batch, labels, self._wants(batch, "token_ids"))
            labels = _first_places(batch, spelling, words >= 0)
        return merge(batch, Groups(labels), renormalise=self.renormalise)


def _first_places(batch: Ragged, keys: Tensor, grouped: Tensor) -> Tensor:
    """Label tokens [t] by the place in their item of the first token with the same key.

    Those that are not ``grouped`` keep their own place.
    """
    rows = torch.arange(len(keys), device=batch.device)[grouped]
    pairs = torch.stack([batch.item_of[grouped], keys[grouped]], dim=1)
    unique, inverse = torch.unique(pairs, dim=0, return_inverse=True)
    first = torch.full((len(unique),), len(keys), device=batch.device)
    first.scatter_reduce_(0, inverse, rows, "amin")
    labels = batch.positions.clone()
    labels[grouped] = batch.positions[first[inverse]]
    return labels


def _spellings(batch: Ragged, words: Tensor, token_ids: Tensor) -> Tensor:
    """Return a number for every token that says of which pieces its word consists: [t] int64.

    words [t]  the place of the first token of the word
    """
    starts = batch.offsets[:-1][batch.item_of] + words
    depth = torch.arange(len(words), device=batch.device) - starts
    # Wraps around in 64 bits: two words share a number by accident once in 10**19 times.
    mixed = (token_ids + 1) * SPREAD
    mixed = (mixed ^ (mixed >> 29)) * (2 * depth + SPREAD)
    mixed = (mixed ^ (mixed >> 32)) * SPREAD
    sums = torch.zeros_like(token_ids).index_add_(0, starts, mixed)
    return sums[starts]
