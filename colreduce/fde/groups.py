"""Tokens put in the order of their blocks, and added up there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def grouped_sums(
    rows: Tensor, members: Tensor, starts: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Add up rows group by group, always in the same order, so that sums repeat bit for bit.

    rows    [t, w]  float32
    members [m]     int64, rows of the first group, then of the second, and so on
    starts  [g]     int64, where each group's members start; an empty group starts where the
                    next one does
    weights [m]     float32, what each member is multiplied by
    returns [g, w]  float32; an empty group is 0
    """
    return torch.nn.functional.embedding_bag(
        members, rows, starts, mode="sum", per_sample_weights=weights
    )


def stable_order(keys: Tensor, most: int) -> Tensor:
    """Return the order that sorts each row of ``keys`` [r, t]; equal keys stay in place.

    ``most`` is above every key. Small keys take NumPy's radix sort on a CPU.
    """
    if keys.device.type == "cpu" and most <= 1 << 16:
        order = np.argsort(keys.numpy().astype(np.uint16), axis=1, kind="stable")
        return torch.from_numpy(order)
    return torch.argsort(keys, dim=1, stable=True)
