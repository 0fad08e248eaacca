"""Cosines that do not depend on how many documents are compared at once.

A greedy method takes the largest of many numbers, and a last bit that changes with the shape of a
matrix product can make it take another one. So the products are taken in float64 and rounded to
float32: two ways of summing differ in the sixteenth digit, and the eighth is the last one kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from colreduce.reduce.buckets import Bucket, device_room

MILLION = 1 << 20
# Float64 numbers held at a time on a CPU.
CPU_ROOM = 1 << 22


def products(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products of [b, l, d] with [b, m, d], rounded to float32: [b, l, m]."""
    count, rows, _ = left.shape
    wide = right.double().transpose(1, 2)
    room = CPU_ROOM if left.device.type == "cpu" else device_room(left.device) // 2
    step = max(room // max(count * right.shape[1], 1), 1)
    if step >= rows:
        return torch.bmm(left.double(), wide).float()
    found = torch.empty(count, rows, right.shape[1], device=left.device)
    for start in range(0, rows, step):
        block = slice(start, start + step)
        found[:, block] = torch.bmm(left[:, block].double(), wide)
    return found


def cosines(bucket: Bucket) -> Tensor:
    """Return the cosine of every two tokens of each document: [b, l, l]; 0 for padding."""
    return products(bucket.tokens, bucket.tokens)


def centrality(bucket: Bucket) -> Tensor:
    """Return the mean cosine of every token to all of its document: [b, l] float32.

    In whole millionths: the tokens of a document of two are equally central, whatever rounding
    says.
    """
    means = bucket.tokens.double().sum(1, keepdim=True) / bucket.mask.sum(1)[:, None, None]
    return (products(means, bucket.tokens)[:, 0] * MILLION).round() / MILLION
