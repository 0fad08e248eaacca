"""Projections of token vectors: a line, a deeper network, or a gated one, with a way around it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from colreduce.train.modules.base import LearnedModule

KINDS = ("linear", "deep", "glu")


class Head(LearnedModule):
    """Map every token vector to another width.

    Args:
        wide: Width that comes in.
        width: Width that goes out.
        kind: linear; deep, which goes through a wider layer; or glu, in which one half of the wider
            layer gates the other.
        hidden: Width of the wider layer, in multiples of ``wide``.
        residual: Add the vector itself, or its projection where the widths differ.

    With a way around it the network starts as nothing beside it, so that an encoder which is good
    already is not lost to random weights.
    """

    config_keys: ClassVar[list[str]] = ["wide", "width", "kind", "hidden", "residual"]

    def __init__(
        self,
        wide: int,
        width: int,
        kind: str = "linear",
        hidden: float = 2.0,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.wide, self.width, self.kind = wide, width, kind
        self.hidden, self.residual = hidden, residual
        inner = wide if kind == "linear" else int(wide * hidden)
        if kind != "linear":
            self.inward = nn.Linear(wide, inner * (2 if kind == "glu" else 1))
        self.outward = nn.Linear(inner, width, bias=False)
        self.around = nn.Linear(wide, width, bias=False) if residual and wide != width else None
        with torch.no_grad():
            if residual and kind != "linear":
                self.outward.weight.zero_()
            else:
                nn.init.orthogonal_(self.outward.weight)
            if self.around is not None:
                nn.init.orthogonal_(self.around.weight)

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        """Map the vectors of queries and documents alike."""
        vectors = features["token_embeddings"]
        made = self.outward(self.spread(vectors))
        if self.residual:
            made = made + (vectors if self.around is None else self.around(vectors))
        features["token_embeddings"] = made
        return features

    def spread(self, vectors: Tensor) -> Tensor:
        """Return the vectors as the wider layer sees them."""
        if self.kind == "linear":
            return vectors
        wide: Tensor = self.inward(vectors)
        if self.kind == "glu":
            value, gate = wide.chunk(2, dim=-1)
            return value * gate.sigmoid()
        return nn.functional.gelu(wide)

    def get_embedding_dimension(self) -> int:
        """Return the width that goes out."""
        return self.width
