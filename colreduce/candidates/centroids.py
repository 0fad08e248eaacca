"""Directions that stand for many token vectors: spherical k-means on a bounded sample."""

from __future__ import annotations

import torch
from torch import Tensor

from colreduce.fde.groups import grouped_sums

# Products of tokens with centroids held at a time: 64 MB.
BLOCK_FLOATS = 1 << 24


def nearest(tokens: Tensor, centroids: Tensor) -> Tensor:
    """Return the centroid of the largest product with each token: [t] int64."""
    step = max(BLOCK_FLOATS // len(centroids), 1)
    parts = [(block @ centroids.T).argmax(1) for block in tokens.split(step)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long, device=tokens.device)


def spherical_centroids(tokens: Tensor, count: int, *, seed: int, passes: int = 8) -> Tensor:
    """Return ``count`` unit vectors [c, d] near which the tokens [t, d] lie.

    Begins with tokens drawn at random; a centroid that loses all its tokens stays where it was.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(tokens), generator=generator)[:count].to(tokens.device)
    centroids = torch.nn.functional.normalize(tokens[drawn], dim=1, eps=1e-12)
    for _ in range(passes):
        owner = nearest(tokens, centroids)
        order = torch.argsort(owner, stable=True)
        sizes = torch.bincount(owner, minlength=len(centroids))
        sums = grouped_sums(tokens, order, sizes.cumsum(0) - sizes)
        moved = torch.nn.functional.normalize(sums, dim=1, eps=1e-12)
        centroids = torch.where((sizes > 0)[:, None], moved, centroids)
    return centroids
