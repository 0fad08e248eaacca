"""Vectors stored as half a byte per number, with one scale per vector or per run of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from colreduce.codec.base import Codec, Codes
from colreduce.codec.scales import half_scales, half_steps, steps_of
from colreduce.method import State, parameter
from colreduce.ragged import Ragged

STEPS = 7


@dataclass(frozen=True, kw_only=True)
class Int4(Codec):
    """Store two numbers in a byte, with a half-precision scale per vector.

    The largest number becomes 7; the others are rounded to the nearest step. With ``group``, every
    run of that many numbers has a scale of its own: finer steps for two more bytes a run.
    """

    name = "int4"
    when = "An eighth of fp32 without learning anything; behind pca, put rotate before it."
    group: int | None = parameter(None, "numbers that share a scale; all of them if none", low=8)

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Remember the width, which half-filled bytes do not tell."""
        return {"width": torch.tensor(sample.dim)}

    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Round to steps; the right half of a vector goes into the upper bits of the left half."""
        width = tokens.shape[1]
        runs = self._runs(tokens.float())
        scales = half_scales(runs.abs().amax(2), STEPS)
        steps = steps_of(runs, scales[:, :, None], STEPS).flatten(1)[:, :width]
        numbers = (pad(steps, (0, width % 2)) + 8).to(torch.uint8)
        left, right = numbers.chunk(2, dim=1)
        return {"tokens": left | (right << 4), "scales": scales}

    def decode(self, codes: Codes, state: State) -> Tensor:
        """Multiply the steps by their scales; exact in float32."""
        width, scales = int(state["width"]), codes["scales"].float()
        steps = torch.empty(len(scales), width, device=scales.device)
        _numbers(codes, steps).sub_(8)
        for number, start in enumerate(range(0, width, self.group or width)):
            steps[:, start : start + (self.group or width)] *= scales[:, number, None]
        return steps

    def _multiply(
        self, codes: Codes, columns: Tensor, state: State, out: Tensor, room: Tensor
    ) -> None:
        """Shift and scale the products, of which there are fewer than numbers."""
        if codes["scales"].shape[1] > 1:
            super()._multiply(codes, columns, state, out, room)
        else:
            torch.mm(_numbers(codes, room), columns, out=out)
            out.sub_(8 * columns.sum(0)).mul_(codes["scales"].float())

    def bytes_per_vector(self, dim: int) -> float:
        """Return a half per number, and 2 for each scale."""
        return (dim + 1) // 2 + 2.0 * -(-dim // (self.group or dim))

    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """Half a step in every number, run by run, of the coarsest vector."""
        magnitudes = self._runs(query.double()).abs().sum(2)
        return float((magnitudes @ half_steps(codes["scales"]).T).amax(1).sum())

    def _runs(self, rows: Tensor) -> Tensor:
        """Split rows into runs that share a scale: [t, d] -> [t, runs, group], 0 at the end."""
        group = self.group or rows.shape[1]
        runs = -(-rows.shape[1] // group)
        return pad(rows, (0, runs * group - rows.shape[1])).view(len(rows), runs, group)


def _numbers(codes: Codes, out: Tensor) -> Tensor:
    """Write the stored numbers, steps counted from -8, into ``out`` [t, d] and return it."""
    packed = codes["tokens"]
    left = packed.shape[1]
    out[:, :left] = packed & 15
    out[:, left:] = packed[:, : out.shape[1] - left] >> 4
    return out
