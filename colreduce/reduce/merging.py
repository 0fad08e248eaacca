"""From groups of tokens to vectors: means, weights, metadata, and where each token went."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from colreduce.ragged import Ragged
from colreduce.reduce.native import compiled
from colreduce.threads import share_out

PRUNED = -1

# A mean this much shorter than its members says that they cancel: its direction is rounding noise.
CANCELLED = 1e-6


@dataclass(frozen=True, slots=True)
class Reduced:
    """What is left of a batch, and where every incoming token went.

    batch       the smaller batch; after a merge ``batch.weights`` counts the tokens behind each
                vector
    assignment  [t] int64, the place inside its item of the vector that took the token in;
                -1 when the token was pruned
    """

    batch: Ragged
    assignment: Tensor


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group of its item every token belongs to, and how much it counts there.

    labels  [t] int64, the number of the group, below the number of tokens of the item; gaps are
            allowed, and a number below 0 prunes the token
    shares  [t] float32, not negative: how much the token counts in the mean of its group. None
            means by its weight. A group in which only one token counts becomes that very token.
    """

    labels: Tensor
    shares: Tensor | None = None


def select(batch: Ragged, mask: Tensor) -> Reduced:
    """Keep the tokens where ``mask`` [t] is true; the others count as pruned."""
    kept = batch.keep(mask)
    before = torch.cumsum(mask.long(), 0) - mask.long()
    starts = torch.cat([before, before.new_zeros(1)])[batch.offsets[:-1].clamp_max(len(mask))]
    place = before - starts[batch.item_of]
    return Reduced(kept, torch.where(mask, place, PRUNED))


def merge(batch: Ragged, groups: Groups, *, renormalise: bool) -> Reduced:
    """Replace every group of tokens by its mean, in the order of the groups' first tokens.

    A token that is alone in its group is carried over bit for bit. The incoming ``weights`` count
    in the means and are added up, as is ``importance``. What is known of tokens is kept where all
    members of a group agree on it.
    """
    taken = groups.labels >= 0
    rows, first, lengths = _number(batch, groups.labels, taken)
    members = rows[taken]
    weights = torch.ones(len(rows), device=batch.device) if batch.weights is None else batch.weights
    shares = weights
    if groups.shares is not None or batch.weights is not None:
        shares = _shares(groups.shares, weights, rows, taken, len(first))
    if _in_native_code(batch.tokens):
        vectors = _native_means(batch, rows, shares, lengths, renormalise)
    else:
        vectors = _means(batch.tokens, rows, taken, shares, len(first), renormalise)
    starts = lengths.cumsum(0) - lengths
    place = torch.where(taken, rows - starts[batch.item_of], PRUNED)

    def total(values: Tensor) -> Tensor:
        sums = torch.zeros(len(first), dtype=torch.float64, device=batch.device)
        return sums.index_add_(0, members, values[taken].double()).float()

    merged = Ragged(
        vectors,
        lengths,
        token_ids=_agreed(batch.token_ids, rows, taken, first, PRUNED),
        word_ids=_agreed(batch.word_ids, rows, taken, first, PRUNED),
        special=_agreed(batch.special, rows, taken, first, False),
        importance=None if batch.importance is None else total(batch.importance),
        weights=total(weights),
        grid=_whole_grids(batch, lengths),
    )
    return Reduced(merged, place)


def _number(batch: Ragged, labels: Tensor, taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number groups across the batch without gaps, by item and then by first token.

    Returns the group of each token [t] (-1 for pruned), the first token of each group, and the
    groups per item [n].
    """
    items = batch.item_of
    count = len(labels)
    every = torch.arange(count, device=batch.device)
    keys = (batch.offsets[:-1][items] + labels)[taken]
    leads = torch.full_like(every, count).scatter_reduce_(0, keys, every[taken], "amin")
    leading = torch.zeros(count + 1, dtype=torch.bool, device=batch.device)
    leading[leads] = True
    leading = leading[:count]
    rank = leading.long().cumsum(0) - 1
    rows = torch.full_like(every, PRUNED)
    rows[taken] = rank[leads[keys]]
    first = torch.nonzero(leading).flatten()
    lengths = torch.zeros_like(batch.lengths)
    return rows, first, lengths.index_add_(0, items[first], torch.ones_like(first))


def _shares(
    given: Tensor | None, weights: Tensor, rows: Tensor, taken: Tensor, count: int
) -> Tensor:
    """Return how much each token counts [t]: equally in a group whose shares come to nothing."""
    shares = (weights if given is None else given).float().clamp_min(0)
    mass = torch.zeros(count, dtype=torch.float64, device=rows.device)
    mass.index_add_(0, rows[taken], shares[taken].double())
    empty = torch.cat([mass <= 0, mass.new_zeros(1, dtype=torch.bool)])
    return torch.where(empty[rows], 1.0, shares)


def _means(
    tokens: Tensor, rows: Tensor, taken: Tensor, shares: Tensor, count: int, renormalise: bool
) -> Tensor:
    """Return the weighted mean of every group: [count, d], in the type of ``tokens``."""
    counting = taken & (shares > 0)
    order = torch.argsort(torch.where(counting, rows, count), stable=True)
    order = order[: int(counting.sum())]
    members = torch.bincount(rows[counting], minlength=count)
    starts = members.cumsum(0) - members
    first = order[starts]  # the first token that counts in each group
    # Each bag is added up in the order of its tokens: a mean does not depend on the batch.
    wide = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    each = shares[order].to(wide.dtype)
    sums = F.embedding_bag(order, wide, starts, mode="sum", per_sample_weights=each)
    mass = torch.zeros(count, dtype=torch.float64, device=tokens.device)
    mass.index_add_(0, rows[counting], shares[counting].double())
    means = sums.div_(mass[:, None].to(wide.dtype))
    if renormalise:
        means = _unit(means, wide, first)
    means = means.to(tokens.dtype)
    alone = torch.nonzero(members == 1).flatten()
    means[alone] = tokens[first[alone]]
    return means


def _in_native_code(tokens: Tensor) -> bool:
    """Tell whether means can be taken by the compiled kernel, which knows no gradients."""
    single = tokens.dtype == torch.float32 and tokens.is_contiguous()
    return tokens.device.type == "cpu" and single and not tokens.requires_grad and bool(compiled())


def _native_means(
    batch: Ragged, rows: Tensor, shares: Tensor, lengths: Tensor, renormalise: bool
) -> Tensor:
    """Do as `_means` does, in native threads that read every token once."""
    kernels = compiled()
    assert kernels is not None
    ends = lengths.cumsum(0)
    means = torch.empty(int(ends[-1]) if len(ends) else 0, batch.dim)
    arrays = [
        values.contiguous().numpy()
        for values in (batch.tokens, rows, shares, batch.offsets, ends - lengths, ends, means)
    ]

    def run(start: int, end: int) -> None:
        kernels.means(start, end, *arrays, renormalise, CANCELLED)

    share_out(len(lengths), run)
    return means


def _unit(means: Tensor, tokens: Tensor, first: Tensor) -> Tensor:
    """Scale to unit length. Opposite vectors cancel; then the group's first vector stands in."""
    norms = means.norm(dim=1)
    lost = torch.nonzero(norms <= CANCELLED * tokens.norm(dim=1)[first]).flatten()
    means = means / norms.index_fill(0, lost, 1.0)[:, None]
    means[lost] = tokens[first[lost]]
    return means


def _agreed(
    values: Tensor | None, rows: Tensor, taken: Tensor, first: Tensor, unknown: int | bool
) -> Tensor | None:
    """Return the value that all members of a group share, or ``unknown``."""
    if values is None:
        return None
    kept = values[first]
    differs = torch.zeros(len(first), dtype=torch.int64, device=rows.device)
    inside = rows[taken]
    differs.index_add_(0, inside, (values[taken] != kept[inside]).long())
    return torch.where(differs > 0, torch.full_like(kept, unknown), kept)


def _whole_grids(batch: Ragged, lengths: Tensor) -> Tensor | None:
    """Return the grids of the pages from which nothing is gone; the others have none any more."""
    if batch.grid is None:
        return None
    return torch.where((lengths == batch.lengths)[:, None], batch.grid, 0)
