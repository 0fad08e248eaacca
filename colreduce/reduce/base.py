"""What a reducer must be, and the hygiene that all of them share.

A reducer decides, for every token of a ragged batch, which output vector it goes to. That is all
a new method has to say: `Merger.group` numbers the tokens of each document, `Selector.pick` marks
the ones to keep. Budgets, protected tokens, documents that are short already, means, lengths,
empty groups, order and provenance are done here, once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.errors import BadInput, BadParameter
from colreduce.method import Method, State, parameter
from colreduce.ragged import TOKEN_FIELDS, Ragged

PRUNED = -1


@dataclass(frozen=True, slots=True)
class Reduced:
    """What is left of a batch, and where every incoming token went.

    batch       the smaller batch; ``batch.weights`` counts the tokens behind each vector
    assignment  [t] int64, the place inside its item of the vector that took the token in;
                -1 when the token was pruned
    """

    batch: Ragged
    assignment: Tensor


@dataclass(frozen=True, kw_only=True)
class Reducer(Method):
    """Makes every item of a batch smaller. Items never see one another."""

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
            if getattr(batch, name) is None:
                raise BadInput(
                    f"{self.name} needs {name}, which these vectors do not carry. Encode from "
                    "text or pages, or choose a reducer that needs the vectors only.",
                    field=name,
                )
        return self._reduce(batch, state)

    @abstractmethod
    def _reduce(self, batch: Ragged, state: State) -> Reduced: ...


@dataclass(frozen=True, kw_only=True)
class Budgeted(Reducer):
    """A reducer that can be told how many vectors to leave."""

    factor: float | None = parameter(
        None, "leave 1 vector in so many (4 if no budget is named)", low=1
    )
    keep: float | None = parameter(None, "leave this share of the vectors", above=0, high=1)
    size: int | None = parameter(None, "leave this many vectors per document", low=1)
    protect: int = parameter(0, "leading vectors that are kept as they are", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [key for key in ("factor", "keep", "size") if getattr(self, key) is not None]
        if len(named) > 1:
            raise BadParameter(f"{self.name}: name one budget, not {' and '.join(named)}")

    def sizes(self, lengths: Tensor) -> Tensor:
        """Return how many vectors to leave of documents of these lengths.

        Protected vectors are always left and never counted as part of what ``factor`` and
        ``keep`` divide: of n vectors p are protected and max(1, floor((n - p) / factor)) are left
        of the others. ``size`` is the whole number left, the protected ones included.
        """
        free = (lengths - self.protect).clamp_min(0)
        if self.size is not None:
            left = torch.full_like(free, max(self.size - self.protect, 1))
        else:
            share = self.keep if self.keep is not None else 1 / (self.factor or 4.0)
            # A hair above the product, so that 0.3 of 10 is 3 whatever binary fractions say.
            left = (free.double() * share + 1e-9).floor().long()
        return torch.minimum(lengths, self.protect + torch.minimum(left.clamp_min(1), free))

    def _split(self, batch: Ragged) -> tuple[Ragged, Tensor, Tensor]:
        """Return the documents that must shrink without their protected vectors, the number
        of vectors to leave of each, and the mask [t] of the vectors given.
        """
        sizes = self.sizes(batch.lengths)
        shrinks = (sizes < batch.lengths)[batch.item_of]
        given = shrinks & (batch.positions >= self.protect)
        inner = batch.keep(given)
        filled = inner.lengths > 0
        inner = Ragged(
            inner.tokens,
            inner.lengths[filled],
            grid=None if batch.grid is None else batch.grid[filled],
            **{name: getattr(inner, name) for name in TOKEN_FIELDS},
        )
        return inner, (sizes - self.protect)[filled], given


@dataclass(frozen=True, kw_only=True)
class Merger(Budgeted):
    """Puts the tokens of a document into groups and replaces each group by its mean."""

    renormalise: bool = parameter(True, "scale the means back to unit length")

    @abstractmethod
    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Number the group of every token inside its document: [t] int64.

        ``sizes`` [n] says how many groups are wanted, fewer than the document has tokens.
        Numbers may have gaps; a number below 0 prunes the token.
        """

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        inner, sizes, given = self._split(batch)
        labels = batch.positions.clone()  # documents and tokens that stay are their own group
        if len(inner):
            groups = self.group(inner, sizes, state)
            labels[given] = torch.where(groups < 0, PRUNED, self.protect + groups)
        return merge(batch, labels, renormalise=self.renormalise, merged=given)


@dataclass(frozen=True, kw_only=True)
class Selector(Budgeted):
    """Keeps some of a document's own tokens and drops the others."""

    @abstractmethod
    def pick(self, batch: Ragged, sizes: Tensor, state: State) -> Tensor:
        """Mark the tokens to keep: [t] bool, ``sizes`` [n] of them per document."""

    def _reduce(self, batch: Ragged, state: State) -> Reduced:
        inner, sizes, given = self._split(batch)
        mask = torch.ones_like(given)
        if len(inner):
            mask[given] = self.pick(inner, sizes, state)
        return select(batch, mask)


def select(batch: Ragged, mask: Tensor) -> Reduced:
    """Keep the tokens where ``mask`` [t] is true; the others count as pruned."""
    kept = batch.keep(mask)
    before = torch.cumsum(mask.long(), 0) - mask.long()
    starts = torch.cat([before, before.new_zeros(1)])[batch.offsets[:-1].clamp_max(len(mask))]
    place = before - starts[batch.item_of]
    return Reduced(kept, torch.where(mask, place, PRUNED))


def merge(batch: Ragged, labels: Tensor, *, renormalise: bool, merged: Tensor) -> Reduced:
    """Replace every group of tokens by its mean, in the order of the groups' first tokens.

    labels [t]  int64, the group inside the item; below 0 prunes
    merged [t]  bool, tokens that took part; the others are carried over bit for bit
    """
    groups, owner, lengths = _number_groups(batch, labels)
    taken = groups >= 0
    count = int(lengths.sum())
    rows = groups[taken]
    weight = torch.ones_like(batch.tokens[:, 0], dtype=torch.float32)
    if batch.weights is not None:
        weight = batch.weights
    # Sums are taken in float64: a mean must not depend on which batch its document came in.
    sums = torch.zeros(count, batch.dim, dtype=torch.float64, device=batch.device)
    sums.index_add_(
        0, rows, (batch.tokens * weight[:, None].to(batch.tokens.dtype))[taken].double()
    )
    mass = torch.zeros(count, dtype=torch.float64, device=batch.device)
    mass.index_add_(0, rows, weight[taken].double())
    means = sums / mass[:, None]
    first = _first_member(rows, torch.nonzero(taken).flatten(), count)
    if renormalise:
        means = _unit(means, batch.tokens[first].double())
    members = torch.zeros(count, dtype=torch.int64, device=batch.device)
    members.index_add_(0, rows, torch.ones_like(rows))
    alone = (members == 1) | ~merged[first]
    vectors = torch.where(alone[:, None], batch.tokens[first], means.to(batch.tokens.dtype))
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])[:-1]
    place = torch.where(taken, groups - starts[batch.item_of], PRUNED)
    return Reduced(Ragged(vectors, lengths, weights=mass.float()), place)


def _number_groups(batch: Ragged, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number groups across the batch without gaps, by item and then by first token.

    Returns the number of each token's group [t] (-1 for pruned), the item of each group, and
    the groups per item [n].
    """
    taken = labels >= 0
    span = int(labels.max()) + 1 if len(labels) else 1
    keys = (batch.item_of * span + labels)[taken]
    unique, inverse = torch.unique(keys, return_inverse=True)
    first = _first_member(inverse, torch.nonzero(taken).flatten(), len(unique))
    order = torch.argsort(first)  # tokens lie item by item, so this is also the order of items
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    groups = torch.full_like(labels, PRUNED)
    groups[taken] = rank[inverse]
    owner = batch.item_of[first[order]]
    lengths = torch.zeros_like(batch.lengths).index_add_(0, owner, torch.ones_like(owner))
    return groups, owner, lengths


def _first_member(groups: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return the smallest of ``rows`` in each group."""
    first = torch.full((count,), torch.iinfo(torch.int64).max, device=groups.device)
    return first.scatter_reduce_(0, groups, rows, "amin")


def _unit(means: Tensor, fallback: Tensor) -> Tensor:
    """Scale to unit length. Opposite vectors cancel; then the group's first vector stands in."""
    norms = means.norm(dim=1, keepdim=True)
    lost = norms < 1e-6
    return torch.where(lost, fallback, means / norms.clamp_min(math.ulp(1.0)))
