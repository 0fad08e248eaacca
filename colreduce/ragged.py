"""Ragged: many ``[t, d]`` matrices laid end to end. The one type that travels between stages.

There is no padding and no mask inside. Padded tensors and lists are turned into a `Ragged` once,
where data enters, and back once, where it leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.errors import BadInput, ShapeMismatch

Vectors: TypeAlias = "Tensor | np.ndarray[Any, Any]"

# What may be known of each token, beside its vector: [t], or None when the encoder does not say.
TOKEN_FIELDS = ("token_ids", "word_ids", "special", "importance", "weights")


@dataclass(frozen=True, slots=True)
class Ragged:
    """``n`` items of ``t_1 .. t_n`` vectors each, with what is known of every token.

    tokens      [t, d]  float   the vectors of all items end to end, t = sum of lengths
    lengths     [n]     int64   how many of them belong to each item, on the same device
    token_ids   [t]     int64   vocabulary number of each token
    word_ids    [t]     int64   number of the word inside its item; -1 for none
    special     [t]     bool    [CLS], [SEP], prompt markers and their like
    importance  [t]     float32 a weight from the encoder, such as the attention received
    weights     [t]     float32 how many original tokens each vector stands for
    grid        [n, 3]  int64   first patch, rows, columns of a page; rows = 0 when there is none
    """

    tokens: Tensor
    lengths: Tensor
    token_ids: Tensor | None = None
    word_ids: Tensor | None = None
    special: Tensor | None = None
    importance: Tensor | None = None
    weights: Tensor | None = None
    grid: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.lengths.ndim != 1:
            raise ShapeMismatch(
                f"wanted tokens [t, d] and lengths [n], got {tuple(self.tokens.shape)} "
                f"and {tuple(self.lengths.shape)}"
            )
        if int(self.lengths.sum()) != len(self.tokens):
            raise ShapeMismatch(
                f"the lengths add up to {int(self.lengths.sum())}, "
                f"but there are {len(self.tokens)} vectors"
            )
        for name in TOKEN_FIELDS:
            value = getattr(self, name)
            if value is not None and value.shape != (len(self.tokens),):
                raise ShapeMismatch(
                    f"{name} has shape {tuple(value.shape)}; wanted ({len(self.tokens)},)"
                )
        if self.grid is not None and self.grid.shape != (len(self.lengths), 3):
            raise ShapeMismatch(
                f"grid has shape {tuple(self.grid.shape)}; wanted ({len(self.lengths)}, 3)"
            )

    @classmethod
    def pack(cls, items: Sequence[Vectors], **metadata: Sequence[Vectors] | None) -> Ragged:
        """Lay matrices end to end; ``metadata`` names lists of per-token arrays.

        ``items`` is exactly what ``MultiVectorEncoder.encode_document`` returns, tensors or
        arrays. Raises `BadInput` for an empty matrix, a wrong width or a value that is not finite.
        """
        matrices = [torch.as_tensor(item) for item in items]
        for number, matrix in enumerate(matrices):
            _check_matrix(matrix, number, matrices[0].shape[-1])
        if not matrices:
            raise BadInput("there are no vectors: the list is empty", field="vectors")
        tokens = torch.cat(matrices)
        if not bool(torch.isfinite(tokens).all()):
            bad = next(i for i, m in enumerate(matrices) if not bool(torch.isfinite(m).all()))
            raise BadInput(f"item {bad} holds a value that is not finite", field="vectors")
        lengths = torch.tensor([len(m) for m in matrices], device=tokens.device)
        joined: dict[str, Tensor] = {}
        for name, values in metadata.items():
            if values is not None:
                parts = [torch.as_tensor(value) for value in values]
                joined[name] = (torch.stack if name == "grid" else torch.cat)(parts).to(
                    tokens.device
                )
        return cls(tokens, lengths, **joined)

    @classmethod
    def concat(cls, batches: Sequence[Ragged]) -> Ragged:
        """Join batches. A field that one of them lacks is lacking in the result."""
        joined: dict[str, Tensor | None] = {}
        for name in (*TOKEN_FIELDS, "grid"):
            parts = [getattr(batch, name) for batch in batches]
            joined[name] = None if any(part is None for part in parts) else torch.cat(parts)
        return cls(
            torch.cat([batch.tokens for batch in batches]),
            torch.cat([batch.lengths for batch in batches]),
            **joined,
        )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.lengths)

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""
        return int(self.tokens.shape[1])

    @property
    def known(self) -> tuple[str, ...]:
        """Return the names of the fields that say something of the tokens."""
        return tuple(name for name in (*TOKEN_FIELDS, "grid") if getattr(self, name) is not None)

    @property
    def device(self) -> torch.device:
        """Return where the vectors are."""
        return self.tokens.device

    @property
    def offsets(self) -> Tensor:
        """Return where each item starts, and the end: [n + 1]."""
        return torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])

    @property
    def item_of(self) -> Tensor:
        """Return the number of the item that each token belongs to: [t]."""
        items = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(items, self.lengths, output_size=len(self.tokens))

    @property
    def positions(self) -> Tensor:
        """Return the place of each token inside its item: [t]."""
        every = torch.arange(len(self.tokens), device=self.device)
        return every - self.offsets[:-1][self.item_of]

    def with_tokens(self, tokens: Tensor) -> Ragged:
        """Return the same items with other vectors, one for one."""
        return dataclasses.replace(self, tokens=tokens)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Ragged:
        """Move everything to a device; ``dtype`` changes the vectors only."""
        moved: dict[str, Tensor] = {"tokens": self.tokens.to(device, dtype or self.tokens.dtype)}
        for name in ("lengths", *TOKEN_FIELDS, "grid"):
            value = getattr(self, name)
            if value is not None:
                moved[name] = value.to(device)
        return dataclasses.replace(self, **moved)

    def keep(self, mask: Tensor) -> Ragged:
        """Keep the tokens where ``mask`` [t] is true, in their order, with what is known of them.

        A page with patches missing is no longer a grid; one that lost only what is around its
        patches still is.
        """
        lengths = torch.zeros_like(self.lengths).index_add_(0, self.item_of, mask.long())
        fields = {name: getattr(self, name) for name in TOKEN_FIELDS}
        kept = {name: None if value is None else value[mask] for name, value in fields.items()}
        return Ragged(self.tokens[mask], lengths, grid=self._grids_of(mask), **kept)

    def _grids_of(self, mask: Tensor) -> Tensor | None:
        """Return the grids of the pages that keep all their patches; None if no page does."""
        if self.grid is None:
            return None
        items = self.item_of
        first, rows, columns = self.grid.unbind(1)
        place = self.positions - first[items]
        patch = (place >= 0) & (place < (rows * columns)[items])
        count = torch.zeros_like(rows)
        lost = count.index_add(0, items, (patch & ~mask).to(count.dtype))
        before = count.index_add(0, items, ((place < 0) & ~mask).to(count.dtype))
        whole = (rows > 0) & (lost == 0)
        moved = torch.stack([first - before, rows, columns], dim=1)
        return torch.where(whole[:, None], moved, 0) if bool(whole.any()) else None

    def take(self, items: Tensor | slice) -> Ragged:
        """Return some of the items, in the order asked for."""
        wanted = torch.arange(len(self), device=self.device)[items]
        lengths = self.lengths[wanted]
        starts = self.offsets[:-1][wanted]
        rows = torch.repeat_interleave(starts - lengths.cumsum(0) + lengths, lengths)
        rows = rows + torch.arange(len(rows), device=self.device)
        fields = {name: getattr(self, name) for name in TOKEN_FIELDS}
        taken = {name: None if value is None else value[rows] for name, value in fields.items()}
        grid = None if self.grid is None else self.grid[wanted]
        return Ragged(self.tokens[rows], lengths, grid=grid, **taken)

    def blocks(self, max_tokens: int) -> Iterator[Ragged]:
        """Split into runs of whole items of at most ``max_tokens`` vectors (one item at least)."""
        ends = self.lengths.cumsum(0).tolist()
        start = used = 0
        for item, end in enumerate(ends):
            if item > start and end - used > max_tokens:
                yield self.take(slice(start, item))
                start, used = item, ends[item - 1]
        if start < len(ends):
            yield self.take(slice(start, len(ends)))

    def unpack(self) -> list[Tensor]:
        """Return one ``[t_i, d]`` view per item."""
        return list(self.tokens.split(self.lengths.tolist()))

    def pad(self) -> tuple[Tensor, Tensor]:
        """Return ``[n, longest, d]`` filled up with zeros, and the mask ``[n, longest]``."""
        longest = int(self.lengths.max()) if len(self) else 0
        mask = torch.arange(longest, device=self.device)[None] < self.lengths[:, None]
        padded = self.tokens.new_zeros(len(self), longest, self.dim)
        padded[mask] = self.tokens
        return padded, mask


def _check_matrix(matrix: Tensor, number: int, dim: int) -> None:
    if matrix.ndim != 2:
        raise ShapeMismatch(
            f"item {number} has shape {tuple(matrix.shape)}; wanted [tokens, width]",
            field="vectors",
        )
    if len(matrix) == 0 or matrix.shape[1] == 0:
        raise BadInput(f"item {number} holds no vectors", field="vectors")
    if matrix.shape[1] != dim:
        raise ShapeMismatch(
            f"item {number} is {matrix.shape[1]} wide, the first is {dim} wide", field="vectors"
        )
    if not matrix.is_floating_point():
        raise ShapeMismatch(
            f"item {number} holds {matrix.dtype}; wanted floating point numbers", field="vectors"
        )


def runs(lengths: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Split items into runs ``start, stop`` whose lengths add up to at most ``limit``."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        used = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, used + limit, "right")), start + 1)
        yield start, stop
        start = stop
