"""What a reducer must be, and the hygiene that all of them share.

A reducer decides, for every token of a ragged batch, which output vector it goes to. That is all
a new method has to say: `Merger.group` numbers the tokens of each document, `Selector.pick` marks
the ones to keep. Budgets, protected tokens, documents that are short already, means, lengths,
empty groups, order and provenance are done here and in `colreduce.reduce.merging`, once.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from colreduce.errors import BadInput, BadParameter
from colreduce.method import Method, State, parameter
from colreduce.ragged import TOKEN_FIELDS, Ragged
from colreduce.reduce.budget import cheapest, find_price, smallest_within
from colreduce.reduce.merging import PRUNED, Groups, Reduced, merge, select

__all__ = [
    "PRUNED",
    "Budgeted",
    "Groups",
    "Merger",
    "Reduced",
    "Reducer",
    "Selector",
    "merge",
    "select",
]


@dataclass(frozen=True, kw_only=True)
class Reducer(Method):
    """Makes every item of a batch smaller. Items never see one another."""

    on_device = True

    def fit(
        self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None = None
    ) -> State:
        """Learn from a sample of documents what `reduce` needs.

        ``vocabulary`` gives the number of every token of the encoder's tokenizer, for methods
        that are told words; None when only vectors are known.
        """
        return {}

    def reduce(self, batch: Ragged, state: State) -> Reduced:
        """Check the batch and make it smaller."""
        for name in self.needs:
            self._wants(batch, name)
        return self._reduce(batch, state)

    def _wants(self, batch: Ragged, name: str) -> Tensor:
        """Return a piece of metadata, or say that these vectors do not carry it."""
        value: Tensor | None = getattr(batch, name)
        if value is None:
            raise BadInput(
                f"{self} needs {name}, which these vectors do not carry. Encode from "
                "text or pages, or choose a reducer that needs the vectors only.",
                field=name,
            )
        return value

    @abstractmethod
    def _reduce(self, batch: Ragged, state: State) -> Reduced: ...


@dataclass(frozen=True, kw_only=True)
class Budgeted(Reducer):
    """A reducer that can be told how many vectors to leave."""

    budgets: ClassVar[tuple[str, ...]] = ("factor", "keep", "size", "error", "average")
    factor: float | None = parameter(
        None, "leave 1 vector in so many (4 if no budget is named)", low=1
    )
    keep: float | None = parameter(None, "leave this share of the vectors", above=0, high=1)
    size: int | None = parameter(None, "leave this many vectors per document", low=1)
    error: float | None = parameter(
        None,
        "leave as few vectors of each document as lose at most this much: 1 - cosine from its "
        "tokens to the nearest vector left",
        low=0,
        high=2,
    )
    error_kind: str = parameter(
        "mean",
        "which loss error bounds: that of the mean or of the worst token",
        choices=("mean", "worst"),
    )
    average: float | None = parameter(
        None,
        "leave this many vectors per document on average over the corpus; documents that lose "
        "more by it get more",
        low=1,
    )
    protect: int = parameter(0, "leading vectors that are kept as they are", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [key for key in self.budgets if getattr(self, key) is not None]
        if len(named) > 1:
            raise BadParameter(f"{self.name}: name one budget, not {' and '.join(named)}")

    def fit(
        self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None = None
    ) -> State:
        """Learn what the method needs, and the price of a vector if ``average`` is the budget."""
        state = dict(self.learn(sample, seed=seed, vocabulary=vocabulary))
        if self.average is not None:
            trial = functools.partial(self._left, state=state)
            state["price"] = find_price(trial, sample, self.average, self.protect, seed)
        return state

    def learn(self, sample: Ragged, *, seed: int, vocabulary: Mapping[str, int] | None) -> State:
        """Learn from a sample what the method itself needs."""
        return {}

    def wanted(self, batch: Ragged, state: State) -> Tensor:
        """Return how many vectors to leave of each document, whatever the budget: [n]."""
        trial = functools.partial(self._left, state=state)
        if self.error is not None:
            return smallest_within(trial, batch, self.error, self.error_kind, self.protect)
        if self.average is not None:
            return cheapest(trial, batch, state["price"], self.protect)
        return self.sizes(batch.lengths)

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        return self._shrink(batch, self.wanted(batch, state), state)

    def _left(self, batch: Ragged, sizes: Tensor, state: State) -> Ragged:
        """Return what is left of documents at given sizes."""
        return self._shrink(batch, sizes, state).batch

    @abstractmethod
    def _shrink(self, batch: Ragged, sizes: Tensor, state: State) -> Reduced:
        """Leave ``sizes`` [n] vectors of each document."""

    def sizes(self, lengths: Tensor) -> Tensor:
        """Return how many vectors ``factor``, ``keep`` or ``size`` leave of these lengths.

        Protected vectors are always left and never counted as part of what ``factor`` and
        ``keep`` divide: of n vectors p are protected and max(1, floor((n - p) / factor)) are left
        of the others. ``size`` is the whole number left, the protected ones included; at least
        one vector is left beside them.
        """
        free = (lengths - self.protect).clamp_min(0)
        if self.size is not None:
            left = torch.full_like(free, max(self.size - self.protect, 1))
        else:
            share = self.keep if self.keep is not None else 1 / (self.factor or 4.0)
            # A hair above the product, so that 0.3 of 10 is 3 whatever binary fractions say.
            left = (free.double() * share + 1e-9).floor().long()
        return torch.minimum(lengths, self.protect + torch.minimum(left.clamp_min(1), free))

    def _split(self, batch: Ragged, sizes: Tensor) -> tuple[Ragged, Tensor, Tensor]:
        """Return the documents that must shrink without their protected vectors, the number
        of vectors to leave of each, and the mask [t] of the vectors given.
        """
        shrinks = (sizes < batch.lengths)[batch.item_of]
        given = shrinks & (batch.positions >= self.protect)
        if bool(given.all()):
            return batch, sizes, given
        inner = batch.keep(given)
        filled = inner.lengths > 0
        inner = Ragged(
            inner.tokens,
            inner.lengths[filled],
            grid=None if batch.grid is None else _behind(batch.grid[filled], self.protect),
            **{name: getattr(inner, name) for name in TOKEN_FIELDS},
        )
        return inner, (sizes - self.protect)[filled], given


@dataclass(frozen=True, kw_only=True)
class Merger(Budgeted):
    """Puts the tokens of a document into groups and replaces each group by its mean."""

    renormalise: bool = parameter(True, "scale the means back to unit length")

    @abstractmethod
    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Say which group of its document every token belongs to.

        ``sizes`` [n] says how many groups are wanted, fewer than the document has tokens.
        """

    def _shrink(self, batch: Ragged, sizes: Tensor, state: State) -> Reduced:
        inner, sizes, given = self._split(batch, sizes)
        labels = batch.positions.clone()  # documents and tokens that stay are their own group
        shares = None
        if len(inner):
            groups = self.group(inner, sizes, state)
            labels[given] = torch.where(groups.labels < 0, PRUNED, self.protect + groups.labels)
            if groups.shares is not None:
                shares = torch.ones(len(labels), device=batch.device)
                shares[given] = groups.shares.float()
        return merge(batch, Groups(labels, shares), renormalise=self.renormalise)


@dataclass(frozen=True, kw_only=True)
class Selector(Budgeted):
    """Keeps some of a document's own tokens and drops the others."""

    @abstractmethod
    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark the tokens to keep: [t] bool, ``sizes`` [n] of them per document."""

    def _shrink(self, batch: Ragged, sizes: Tensor, state: State) -> Reduced:
        inner, sizes, given = self._split(batch, sizes)
        mask = torch.ones_like(given)
        if len(inner):
            mask[given] = self.pick(inner, sizes, state)
        return select(batch, mask)


def _behind(grid: Tensor, protect: int) -> Tensor:
    """Return where the patches start once the protected vectors before them are gone.

    A page whose first patches are protected is no longer a whole grid.
    """
    if not protect:
        return grid
    moved = grid.clone()
    moved[:, 0] -= protect
    moved[moved[:, 0] < 0] = 0
    return moved
