"""Groups around the tokens that learned queries attend to most."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from colreduce.train.modules.base import Fewer, directed


class AttentionGroups(Fewer):
    """Group a document's tokens around those that matter most, weighted by how much they do (AGC).

    Args:
        size: How many vectors a document is left with; shorter documents keep all.
        width: The width of the vectors.
        heads: Into how many parts vectors are split for attention.

    Learned queries attend to the tokens; what a token receives on average is its weight. The
    heaviest ones are the centres, every token goes to the centre with the greatest cosine, and a
    group becomes its weighted mean. Vectors are ordered by the weight of their centre.

    Where this differs from the paper: attention is paid to the finished token vectors in a layer of
    its own, so that it works behind any encoder; there, the queries are read by the encoder.
    """

    config_keys: ClassVar[list[str]] = ["size", "width", "heads"]

    def __init__(self, size: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.size, self.width, self.heads = size, width, heads
        self.queries = nn.Parameter(torch.randn(size, width) / math.sqrt(width))
        self.keys = nn.Linear(width, width, bias=False)

    def few(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted means, of unit length."""
        weights = self.received(vectors, mask)
        with torch.no_grad():
            sizes = mask.sum(1).clamp_max(self.size)
            order = weights.masked_fill(~mask, -1).argsort(dim=1, descending=True, stable=True)
            centres = order[:, : int(sizes.max())]
            kept = torch.arange(centres.shape[1], device=mask.device) < sizes[:, None]
            picked = vectors.gather(1, centres[:, :, None].expand(-1, -1, vectors.shape[2]))
            near = torch.bmm(vectors, picked.transpose(1, 2)).masked_fill_(~kept[:, None], -9)
            owner = near.argmax(2)
            owner.scatter_(
                1,
                centres,
                torch.arange(centres.shape[1], device=mask.device)
                .expand(len(owner), -1)
                .contiguous(),
            )
            member = torch.nn.functional.one_hot(owner, centres.shape[1]) * mask[:, :, None]
        shares = member.to(vectors.dtype) * weights[:, :, None]
        return directed(torch.bmm(shares.transpose(1, 2), vectors), kept)

    def received(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return the attention that every token receives, on average: [b, t]."""
        keys = self.keys(vectors).unflatten(2, (self.heads, -1))  # [b, t, h, d / h]
        asked = self.queries.unflatten(1, (self.heads, -1))  # [s, h, d / h]
        products = torch.einsum("bthe,she->bhst", keys, asked) / math.sqrt(asked.shape[2])
        paid = products.masked_fill(~mask[:, None, None], -torch.inf).softmax(3)
        return paid.mean((1, 2))
