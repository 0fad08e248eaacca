"""Vectors stored as the signs of their numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.codec.base import Codec, Codes
from colreduce.codec.bits import (
    MANY_QUERIES,
    byte_tables,
    pack,
    packed_width,
    spread,
    table_products,
)
from colreduce.codec.scales import checked_half, radii, radius_bound
from colreduce.method import State
from colreduce.ragged import Ragged


@dataclass(frozen=True, kw_only=True)
class Binary(Codec):
    """Store one bit per number, its sign, and one scale per vector; the query stays as it is.

    The scale is such that the product of a vector with its own code is right.
    """

    name = "binary"
    paper = "Gao and Long 2024, arXiv 2405.12497 (RaBitQ)"
    when = "For the fewest bytes without codebooks; put rotate before it."

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Remember the width, which half-filled bytes do not tell."""
        return {"width": torch.tensor(sample.dim)}

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Take the signs, and the scale: the squares' sum over that of the magnitudes."""
        tokens = tokens.float()
        magnitudes = tokens.abs()
        largest = magnitudes.amax(1, keepdim=True)
        # Relative to the largest, so that squares of tiny numbers do not vanish.
        shares = magnitudes / torch.where(largest == 0, 1.0, largest)
        sums = shares.sum(1).clamp_min(1)
        scales = checked_half(shares.square().sum(1) / sums * largest[:, 0], "binary")
        codes = {"tokens": pack((tokens > 0) & (scales > 0)[:, None], 1), "scales": scales}
        return {**codes, "errors": radii(tokens, self.decode(codes, state))}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Give every sign its vector's scale."""
        signs = spread(codes["tokens"], 1, _signs(codes), int(state["width"]))
        return signs * codes["scales"].float()[:, None]

    def similarities(self, query: Tensor, codes: Codes, state: State) -> Tensor:
        """Add up one table entry per byte and scale the sums: [q, t]."""
        if len(query) > MANY_QUERIES:
            return super().similarities(query, codes, state)
        tables = byte_tables(_signs(codes), query.float(), 1)
        return (table_products(codes["tokens"], tables) * codes["scales"].float()[:, None]).T

    def bytes_per_vector(self, dim: int) -> float:
        """Return a bit per number, 2 for the scale and 1 for the error bound."""
        return packed_width(dim, 1) + 2.0 + 1.0

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """The distance of the worst vector from its original, stored with it."""
        return radius_bound(query, codes["errors"])


def _signs(codes: Codes) -> Tensor:
    return torch.tensor([-1.0, 1.0], device=codes["tokens"].device)
