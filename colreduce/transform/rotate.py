"""A random rotation, which spreads what a vector says evenly over its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.transform.base import Transform


@dataclass(frozen=True, kw_only=True)
class Rotate(Transform):
    """Turn all vectors by one random rotation. Every product stays what it was.

    After ``pca`` the leading numbers are large and the last ones small; a rotation makes them
    alike, so that codecs with one scale for a whole vector waste fewer bits. The rotation is
    drawn from the index's seed and stored with it.
    """

    name = "rotate"
    paper = "Gao and Long 2024, arXiv 2405.12497 (RaBitQ rotates before it takes signs)"
    when = "Before binary, int4 or pq, mostly after pca."

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Draw a rotation, uniform over all of them."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(sample.dim, sample.dim, generator=generator, dtype=torch.float64)
        rotation, triangle = torch.linalg.qr(drawn)
        # QR leaves the signs of the axes to the library; fixing them makes the draw uniform.
        rotation = rotation * triangle.diagonal().sign()
        return {"rotation": rotation.float().contiguous().to(sample.device)}

    def apply(self, tokens: Tensor, state: State) -> Tensor:
        """Rotate: [t, d] -> [t, d]."""
        return tokens.float() @ state["rotation"].to(tokens.device)
