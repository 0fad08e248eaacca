"""Vectors stored as one byte per number and one scale per vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.codec.base import Codec, Codes
from colreduce.codec.scales import half_scales, half_steps, steps_of
from colreduce.method import State

STEPS = 127


@dataclass(frozen=True, kw_only=True)
class Int8(Codec):
    """Store one byte per number and a half-precision scale per vector.

    A vector's largest number becomes 127; the others are rounded to the nearest step.
    """

    name = "int8"
    when = "The usual choice: a quarter of fp32 at a loss that is hard to measure."

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Round every vector to steps of a 127th of its largest number."""
        tokens = tokens.float()
        scales = half_scales(tokens.abs().amax(1), STEPS)
        return {"tokens": steps_of(tokens, scales[:, None], STEPS).to(torch.int8), "scales": scales}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Multiply the steps by their vector's scale; exact in float32."""
        return codes["tokens"].float().mul_(codes["scales"].float()[:, None])

    def _multiply(
        self, codes: Codes, columns: Tensor, state: State, out: Tensor, room: Tensor
    ) -> None:
        """Scale the products, of which there are fewer than numbers."""
        torch.mm(room.copy_(codes["tokens"]), columns, out=out)
        out.mul_(codes["scales"].float()[:, None])

    def rows(self, codes: Codes) -> tuple[Tensor, Tensor | None]:
        """Return the steps and their vectors' scales."""
        return codes["tokens"], codes["scales"]

    def bytes_per_vector(self, dim: int) -> float:
        """Return 1 per number and 2 for the scale."""
        return dim + 2.0

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """Half a step in every number of the coarsest vector."""
        return float(half_steps(codes["scales"]).max() * query.double().abs().sum())
