"""Lloyd's k-means for codebooks: many centroids, few rounds, memory bounded."""

from __future__ import annotations

import torch
from torch import Tensor

from colreduce.threads import one_thread

# Products held at a time while points look for their centroid: 1 MB, which stays in the cache.
BLOCK_PRODUCTS = 1 << 18


@one_thread()
def kmeans(
    points: Tensor, count: int, *, seed: int, rounds: int, spherical: bool = False
) -> Tensor:
    """Return ``count`` centroids of the points, fewer when there are fewer points.

    points  [n, d]  float32; starts from randomly drawn ones
    returns [c, d]  float32; of unit length when ``spherical``
    """
    drawn = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    centroids = points[drawn[:count].to(points.device)].clone()
    for _ in range(rounds):
        owner = nearest(points, centroids)
        sizes = torch.bincount(owner, minlength=len(centroids))
        # Sorted and summed run by run, because adding into places is not deterministic on CUDA.
        sums = torch.segment_reduce(
            points[owner.argsort(stable=True)], "sum", lengths=sizes, axis=0, unsafe=True
        )
        means = sums / sizes.clamp_min(1)[:, None]
        if spherical:
            means = torch.nn.functional.normalize(means, dim=1, eps=1e-12)
        # A centroid that nobody chose stays where it is.
        centroids = torch.where((sizes > 0)[:, None], means, centroids)
    return centroids


@one_thread()
def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the number of the centroid closest to each point: [n] int64; ties to the lowest."""
    # The closest is the one with the largest product, less half its square: one more column.
    half_squares = centroids.square().sum(1, keepdim=True) / 2
    against = torch.cat([centroids, half_squares], 1).T.contiguous()
    products = BLOCK_PRODUCTS if points.device.type == "cpu" else 256 * BLOCK_PRODUCTS
    owners = []
    for part in points.split(max(1, products // len(centroids))):
        column = part.new_full((len(part), 1), -1.0)
        owners.append(_argmax(torch.cat([part, column], 1) @ against))
    return torch.cat(owners) if owners else torch.zeros(0, dtype=torch.long, device=points.device)


def _argmax(rows: Tensor) -> Tensor:
    """Return the place of the largest number of each row; on CPU numpy is 8 times faster."""
    if rows.device.type != "cpu":
        return rows.argmax(1)
    return torch.from_numpy(rows.numpy().argmax(1))
