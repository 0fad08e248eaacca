"""Selectors that look at positions only: the first, the last, every so many, at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Selector
from colreduce.reduce.ranked import Ranked


@dataclass(frozen=True, kw_only=True)
class First(Selector):
    """Keep the first tokens of the document, and drop the rest of the text."""

    name = "first"
    paper = "first-k in Lassance et al. 2021, arXiv 2112.06540"
    when = "As a baseline, or where documents say first what they are about."

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark the front of every document."""
        return batch.positions < sizes[batch.item_of]


@dataclass(frozen=True, kw_only=True)
class Last(Selector):
    """Keep the last tokens of the document."""

    name = "last"
    paper = "the tail baseline of CRISP, arXiv 2505.11471"
    when = "As a baseline, or for decoders whose last tokens have seen the whole text."

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark the end of every document."""
        items = batch.item_of
        return batch.positions >= (batch.lengths - sizes)[items]


@dataclass(frozen=True, kw_only=True)
class Stride(Selector):
    """Keep tokens at equal distances, such as every fourth.

    The document is cut into as many runs as vectors are wanted, and the first token of each run
    stays.
    """

    name = "stride"
    paper = "K-spacing in CRISP, arXiv 2505.11471"
    when = "The floor that a selector has to beat; nothing is faster."

    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark where a new run starts."""
        items = batch.item_of
        places, sizes, lengths = batch.positions, sizes[items], batch.lengths[items]
        run = places * sizes // lengths
        return (places == 0) | (run != (places - 1) * sizes // lengths)


@dataclass(frozen=True, kw_only=True)
class Random(Ranked):
    """Keep tokens drawn at random.

    The draw depends on the seed, the document's length and the position, and on nothing else, so
    that a document is drawn the same way wherever and whenever it is indexed. A larger budget
    keeps the tokens of a smaller one and adds to them.
    """

    name = "random"
    when = "As a baseline: a method that does not beat it has learned nothing."

    def learn(self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None) -> State:
        """Remember the seed."""
        return {"seed": torch.tensor([seed])}

    def score(self, batch: Ragged, state: State) -> Tensor:
        """Return one scrambled number per token."""
        seed = state["seed"].to(batch.device)
        documents = scramble(scramble(seed) + batch.lengths)
        return scramble(documents[batch.item_of] + batch.positions)


def scramble(numbers: Tensor) -> Tensor:
    """Mix the bits of whole numbers [n] into others without a pattern (the finish of splitmix64).

    Integer arithmetic that wraps around, so the result is the same on every device.
    """
    mixed = numbers.long() + _signed(0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shift(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shift(mixed, 27)) * _signed(0x94D049BB133111EB)
    return mixed ^ _shift(mixed, 31)


def _shift(numbers: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill up with zeros, as for numbers without a sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64)
