"""Where groups of a query's vectors start, the same way every time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

SAME = 1 << 20  # cosines are compared in whole millionths, so that equals are equal


def cosines(query: Tensor) -> Tensor:
    """Return the cosine of every two vectors of a query: [q, q] float64, in whole millionths."""
    unit = normalize(query.double(), dim=1)
    return (unit @ unit.T * SAME).round() / SAME


def farthest_first(table: Tensor, size: int) -> Tensor:
    """Return ``size`` positions [size]: the least central vector, then always the farthest one."""
    nearest = table.mean(1)
    taken = torch.zeros(len(table), dtype=torch.bool, device=table.device)
    chosen = []
    for turn in range(size):
        pick = nearest.masked_fill(taken, torch.inf).argmin()
        taken[pick] = True
        chosen.append(pick)
        nearest = table[pick] if turn == 0 else torch.maximum(nearest, table[pick])
    return torch.stack(chosen)
