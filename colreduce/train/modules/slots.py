"""A constant number of vectors: each is a learned mixture of a document's token vectors."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from colreduce.errors import BadInput
from colreduce.train.modules.base import Fewer, directed


class Slots(Fewer):
    """Mix the tokens of a document into ``size`` vectors by weights of their positions (ConstBERT).

    Args:
        size: How many vectors a document is left with.
        length: How many tokens a document may have: weights belong to positions.
        width: The width of the vectors.
        full: A matrix for every position and slot, as published, in place of a number: width
            times width as many weights.

    Slots start as means of every ``size``-th token, so that each sees all parts of a text and even
    a short one fills them.
    """

    config_keys: ClassVar[list[str]] = ["size", "length", "width", "full"]

    def __init__(self, size: int, length: int, width: int, *, full: bool = False) -> None:
        super().__init__()
        self.size, self.length, self.width, self.full = size, length, width, full
        start = torch.zeros(length, size)
        start[torch.arange(length), torch.arange(length) % size] = 1.0
        if full:
            start = start[:, None, :, None] * torch.eye(width)[None, :, None]
        self.weight = nn.Parameter(start)

    def few(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixtures, of unit length."""
        count = vectors.shape[1]
        if count > self.length:
            raise BadInput(
                f"a document has {count} tokens; this model mixes the first {self.length} by their "
                f"positions. Set its max_seq_length to {self.length}.",
                field="documents",
            )
        rule = "btd,tdse->bse" if self.full else "btd,ts->bsd"
        mixed = torch.einsum(rule, vectors, self.weight[:count])
        return directed(mixed, mask.any(1, keepdim=True).expand(-1, self.size))
