"""Small documents for comparisons: clustered, with repeats, short and long."""

from __future__ import annotations

import torch
from torch import Tensor

from colreduce.ragged import Ragged


def clustered(length: int, dim: int = 16, seed: int = 0) -> Tensor:
    """Return unit vectors around a sixth as many directions."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    directions = torch.randn(max(length // 6, 1), dim, generator=generator)
    chosen = torch.randint(len(directions), (length,), generator=generator)
    vectors = directions[chosen] + 0.6 * torch.randn(length, dim, generator=generator)
    return torch.nn.functional.normalize(vectors, dim=1)


def some_documents(dim: int = 16) -> Ragged:
    """Return documents of many lengths; one repeats its tokens, one is one token over and over."""
    documents = [clustered(length, dim) for length in (1, 2, 3, 9, 17, 40, 41, 100)]
    repeated = clustered(12, dim, seed=1)
    documents.append(torch.cat([repeated, repeated]))
    documents.append(clustered(1, dim, seed=2).expand(15, -1).clone())
    return Ragged.pack(documents)


def some_weights(batch: Ragged) -> Tensor:
    """Return a whole number from 1 to 5 for every token."""
    generator = torch.Generator().manual_seed(5)
    return torch.randint(1, 6, (len(batch.tokens),), generator=generator).float()
