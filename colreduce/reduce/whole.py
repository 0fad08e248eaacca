"""Products of token vectors in whole numbers.

Vectors of unit length are rounded to a grid, so that every product and every sum of products is a
whole number that float32 or int32 holds exactly. It comes out the same in whatever order it is
added up: a choice between two tokens does not depend on the batch they came in, on the number of
threads or on the machine, and tokens that are the same are exactly as near as can be.
"""

from __future__ import annotations

import torch
from torch import Tensor

from colreduce.reduce.buckets import Bucket

# Products of vectors up to this length stay below 2**24, where float32 holds every whole number.
LONGEST = 4000.0
EXACT = 2**24

# Weights count in steps of this share of the heaviest token's.
WEIGHT_STEPS = 64


class Room:
    """Memory for tables that one bucket after the other uses. Fresh memory costs more than sums."""

    def __init__(self) -> None:
        self._held = torch.empty(0, dtype=torch.int32)

    def table(self, count: int, length: int) -> Tensor:
        """Return [count, length, length] int32 on the CPU, with anything in it."""
        needed = count * length * length
        if self._held.numel() < needed:
            self._held = torch.empty(needed, dtype=torch.int32)
        return self._held[:needed].view(count, length, length)


def on_grid(vectors: Tensor) -> Tensor:
    """Round vectors of unit length to a grid of 1/4000: a cosine moves by about a 10,000th."""
    return (vectors * LONGEST).round_()


def whole_products(tokens: Tensor, room: Room) -> Tensor:
    """Round unit vectors [b, l, d] to 8 bits and return their products [b, l, l] int32.

    The largest coordinate of a document becomes 127, and a cosine moves by about a 1,000th. That
    is enough to choose by, and a CPU multiplies such numbers several times as fast.
    """
    largest = tokens.abs().amax((1, 2), keepdim=True).clamp_min(1e-6)
    whole = (tokens * (127 / largest).clamp_max(LONGEST)).round_()
    if tokens.device.type != "cpu":
        return torch.bmm(whole, whole.transpose(1, 2)).int()
    table = room.table(*tokens.shape[:2])
    for vectors, products in zip(whole.to(torch.int8), table, strict=True):
        torch._int_mm(vectors, vectors.T, out=products)
    return table


def whole_weights(bucket: Bucket, weights: Tensor | None) -> Tensor | None:
    """Round the weights of tokens [t] to whole numbers of 1 to `WEIGHT_STEPS`: [b, l] int64.

    None stays None: all tokens count alike. Padding gets 0.
    """
    if weights is None:
        return None
    given = bucket.take(weights).clamp_min(0)
    largest = given.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    steps = (given / largest * WEIGHT_STEPS).round().clamp_min(1)
    return torch.where(bucket.mask, steps, 0).to(torch.int64)
