"""Products of token vectors in whole numbers.

Vectors of unit length are rounded to a grid, so that every product and every sum of products is a
whole number that float32 or int32 holds exactly. It comes out the same in whatever order it is
added up: a choice between two tokens does not depend on the batch they came in, on the number of
threads or on the machine, and tokens that are the same are exactly as near as can be.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from time import perf_counter

import torch
from torch import Tensor

from colreduce.reduce.buckets import Bucket

# Products of vectors up to this length stay below 2**24, where float32 holds every whole number.
LONGEST = 4000.0
EXACT = 2**24

# Weights count in steps of this share of the heaviest token's.
WEIGHT_STEPS = 64


class Room(threading.local):
    """Memory for tables that one bucket after the other uses, in each thread its own.

    Fresh memory costs more than sums.
    """

    def __init__(self) -> None:
        self._held = torch.empty(0, dtype=torch.int32)

    def table(self, *shape: int) -> Tensor:
        """Return a table of int32 on the CPU, with anything in it."""
        needed = math.prod(shape)
        if self._held.numel() < needed:
            self._held = torch.empty(needed, dtype=torch.int32)
        return self._held[:needed].view(shape)


def on_grid(vectors: Tensor) -> Tensor:
    """Round vectors of unit length to a grid of 1/4000: a cosine moves by about a 10,000th.

    The vectors are overwritten.
    """
    return vectors.mul_(LONGEST).round_()


def whole(bucket: Bucket) -> Bucket:
    """Return the documents with their vectors rounded to whole numbers of 8 bits.

    The largest coordinate of a document becomes 127, and a cosine moves by about a 1,000th. That
    is enough to choose by, and some CPUs multiply such numbers several times as fast. The vectors
    are overwritten.
    """
    flat = bucket.tokens.flatten(1)
    scale = 127 / torch.maximum(-flat.amin(1), flat.amax(1)).clamp_min(1e-6)
    tokens = bucket.tokens.mul_(scale.clamp_max(LONGEST)[:, None, None]).round_()
    return dataclasses.replace(bucket, tokens=tokens)


def whole_products(bucket: Bucket, room: Room) -> Tensor:
    """Return the products of the rounded vectors of each document: [b, l, l] int32.

    The bucket's vectors are overwritten with the rounded ones.
    """
    tokens = whole(bucket).tokens
    if tokens.device.type != "cpu":
        return torch.bmm(tokens, tokens.transpose(1, 2)).int()
    small = tokens.to(quickest_type())
    return multiply(small, small, room.table(*tokens.shape[:2], tokens.shape[1]))


def multiply(left: Tensor, right: Tensor, products: Tensor) -> Tensor:
    """Fill in and return the products of [b, l, d] with [b, k, d], on the CPU: [b, l, k] int32.

    Both are whole numbers, of type int8 or float32.
    """
    if left.dtype == torch.float32:
        # Every product is a whole number that float32 holds, and turned into one where it lies.
        torch.bmm(left, right.transpose(1, 2), out=products.view(torch.float32))
        return products.copy_(products.view(torch.float32))
    for one, other, out in zip(left, right.transpose(1, 2), products, strict=True):
        torch._int_mm(one, other, out=out)
    return products


@functools.cache
def quickest_type() -> torch.dtype:
    """Return the type in which this machine multiplies whole numbers quickest: int8 or float32.

    Found by trying, once per process: processors that know products of bytes take a quarter of the
    time for them, others over ten times as long. The products are the same, bit for bit. Tried on
    as much as a few documents, and the best try counts: on a busy machine a single product takes
    as long as its threads have to wait for each other, whatever the type.
    """
    numbers = torch.ones(4, 200, 128)
    room = torch.empty(4, 200, 200, dtype=torch.int32)
    seconds = {}
    for kind in (torch.int8, torch.float32):
        small = numbers.to(kind)
        tries = []
        for _ in range(3):
            started = perf_counter()
            multiply(small, small, room)
            tries.append(perf_counter() - started)
        seconds[kind] = min(tries)
    return min(seconds, key=lambda kind: seconds[kind])


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
