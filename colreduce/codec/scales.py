"""Half-precision scales that survive a round trip, and one-byte error radii."""

from __future__ import annotations

import torch
from torch import Tensor

from colreduce.errors import BadInput

SMALLEST = 2.0**-24  # the smallest positive number of half precision
NORMAL = 2.0**-14  # the smallest with all 11 bits
# An error radius is stored as the exponent of a power of 2 in eighths, counted from here.
FIRST_EXPONENT = -16.0


def half_scales(largest: Tensor, steps: int) -> Tensor:
    """Return scales that let ``steps`` steps reach the largest number of each vector.

    Rounded up, so that no number passes the last step afterwards. Where half precision loses
    bits (below 2**-14) the scales are powers of two: so the largest number lies in the upper half
    of the steps, and the scale of a decoded vector is the scale it was decoded with.

    largest [...]  float32, not negative
    returns [...]  float16; 0 where every number would be rounded to 0
    """
    wanted = largest / steps
    scales = wanted.half()
    short = scales.float() * steps < largest
    scales = torch.where(short, _next_up(scales), scales)
    mantissa, exponent = torch.frexp(wanted)
    powers = torch.ldexp(torch.ones_like(wanted), exponent - (mantissa == 0.5).to(torch.int32))
    tiny = torch.where(powers * steps < largest, powers * 2, powers).clamp_min(SMALLEST).half()
    scales = torch.where(wanted < NORMAL, tiny, scales)
    if not bool(torch.isfinite(scales).all()):
        raise BadInput(
            f"a vector holds the number {float(largest.max()):g}; scales in half precision reach "
            f"{65504 * steps:g}. Normalise the vectors, or store them as fp32.",
            field="vectors",
        )
    return torch.where(largest <= SMALLEST / 2, 0.0, scales)


def checked_half(numbers: Tensor, codec: str) -> Tensor:
    """Round to half precision; a number too large for it is refused, not made infinite."""
    halves = numbers.half()
    if not bool(torch.isfinite(halves).all()):
        raise BadInput(
            f"a vector holds the number {float(numbers.abs().max()):g}; {codec} reaches 65504. "
            "Normalise the vectors, or store them as fp32.",
            field="vectors",
        )
    return halves


def steps_of(tokens: Tensor, scales: Tensor, most: int) -> Tensor:
    """Return the nearest whole number of steps for each number, 0 where the scale is 0."""
    divisors = torch.where(scales == 0, 1.0, scales.float())
    return (tokens / divisors).round().clamp(-most, most)


def half_steps(scales: Tensor) -> Tensor:
    """Return how far a number can be from its step: half a step and float32's rounding."""
    # A quotient of up to 127 is rounded by at most 2**-18 before it is rounded to a step.
    return scales.double().clamp_min(SMALLEST) * (0.5 + 2.0**-18)


def radii(tokens: Tensor, decoded: Tensor) -> Tensor:
    """Return one byte per vector that bounds how far the decoded one is from the true one.

    tokens, decoded [t, d]  float32
    returns         [t]     uint8, read by `radius_of`
    """
    errors = (tokens.double() - decoded.double()).norm(dim=1)
    # 1e-9 more than needed, so that rounding the logarithm cannot undercut.
    eighths = ((errors.clamp_min(1e-12).log2() - FIRST_EXPONENT) * 8 + 1e-9).ceil().clamp_min(0)
    if bool((eighths > 255).any()):
        raise BadInput(
            f"a vector of length {float(tokens.norm(dim=1).max()):g} is too long for this codec. "
            "Normalise the vectors, or store them as fp32.",
            field="vectors",
        )
    return eighths.to(torch.uint8)


def radius_of(stored: Tensor) -> Tensor:
    """Return the distances that stored bytes stand for: float64."""
    return torch.exp2(stored.double() / 8 + FIRST_EXPONENT)


def radius_bound(query: Tensor, stored: Tensor) -> float:
    """Bound how far a document's score is from the true one, from its vectors' error radii."""
    return float(query.double().norm(dim=1).sum() * radius_of(stored).max())


def all_unit(tokens: Tensor) -> bool:
    """Say whether vectors have unit length, zeros apart."""
    lengths = tokens.float().norm(dim=1)
    return bool((((lengths - 1).abs() < 1e-3) | (lengths == 0)).all())


def _next_up(values: Tensor) -> Tensor:
    """Return the next larger half-precision number of each that is not negative."""
    return (values.view(torch.int16) + 1).view(torch.float16)
