"""Vectors stored as floating point numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.codec.base import Codec, Codes
from colreduce.codec.scales import checked_half
from colreduce.method import State


@dataclass(frozen=True, kw_only=True)
class Fp32(Codec):
    """Store four bytes per number: nothing is lost."""

    name = "fp32"
    when = "As the yardstick, or where disk does not matter."

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Keep the vectors as they are."""
        return {"tokens": tokens.float()}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Return the vectors as they are."""
        return codes["tokens"].float()

    def rows(self, codes: Codes) -> tuple[Tensor, Tensor | None]:
        """Return the vectors as they are stored."""
        return codes["tokens"], None

    def bytes_per_vector(self, dim: int) -> float:
        """Return 4 per number."""
        return 4.0 * dim

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """Return 0: what was stored is what was given."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Fp16(Codec):
    """Store two bytes per number: 11 significant bits, far below what a ranking can notice."""

    name = "fp16"
    when = "Where the order must not change and half the bytes are welcome."

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Round to half precision; a number too large for it is refused, not made infinite."""
        return {"tokens": checked_half(tokens, "fp16")}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Widen to single precision, exactly."""
        return codes["tokens"].float()

    def _multiply(
        self, codes: Codes, columns: Tensor, state: State, out: Tensor, room: Tensor
    ) -> None:
        """Widen into memory that is used again."""
        torch.mm(room.copy_(codes["tokens"]), columns, out=out)

    def rows(self, codes: Codes) -> tuple[Tensor, Tensor | None]:
        """Return the vectors as they are stored."""
        return codes["tokens"], None

    def bytes_per_vector(self, dim: int) -> float:
        """Return 2 per number."""
        return 2.0 * dim

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """Half a unit in the last of 11 bits, plus what denormal numbers lose outright."""
        # Rounding moves a number by at most 2**-11 of what it is rounded to, or by 2**-25.
        products = query.double().abs() @ codes["tokens"].double().abs().T
        tiny = query.double().abs().sum(1, keepdim=True) * 2.0**-25
        return float((products * 2.0**-11 + tiny).amax(1).sum())
