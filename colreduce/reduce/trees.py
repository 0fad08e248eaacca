"""Hierarchical clustering of the tokens of each document, cut where few enough groups are left.

Merging is one step after the other and cannot be batched, so documents are worked on one by one.
With numba, in native threads, and the merging stops at the cut; without it the whole tree is built
by fastcluster or scipy and then cut at the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.ragged import Ragged
from colreduce.reduce.buckets import Bucket, each_bucket, scatter
from colreduce.reduce.native import compiled
from colreduce.reduce.whole import Room, whole_products
from colreduce.threads import share_out

LINKAGES = ("ward", "average", "complete", "single")


def cluster_trees(batch: Ragged, sizes: Tensor, linkage: str) -> Tensor:
    """Cluster the tokens of each document by their squared distances: [t] int64.

    Tokens that are the same end in one group; there are ``sizes`` groups, or fewer where a
    document has fewer tokens that differ.
    """
    labels = torch.empty(len(batch.tokens), dtype=torch.int64, device=batch.device)
    room = Room()

    def cluster(bucket: Bucket) -> None:
        products = whole_products(bucket, room).cpu()
        found = _from_products(products, bucket.mask.sum(1).cpu(), bucket.sizes.cpu(), linkage)
        scatter(bucket, found.to(batch.device), labels)

    each_bucket(batch, sizes, cluster, square=True)
    return labels


def _from_products(products: Tensor, lengths: Tensor, sizes: Tensor, linkage: str) -> Tensor:
    """Cluster tokens with these products [b, l, l] int32, which are overwritten."""
    if (kernels := compiled()) is None:
        halves = products.diagonal(dim1=1, dim2=2).float() / 2
        tables = halves[:, :, None] + halves[:, None] - products.float()
        return cut_trees(tables, lengths, sizes, linkage, ties=False)
    labels = torch.zeros(products.shape[:2], dtype=torch.int64)
    tables = products.view(torch.float32)

    def run(start: int, end: int) -> None:
        part = slice(start, end)
        kernels.agglomerate_products(
            products[part].numpy(),
            tables[part].numpy(),
            lengths[part].numpy(),
            sizes[part].numpy(),
            LINKAGES.index(linkage),
            labels[part].numpy(),
        )

    share_out(len(lengths), run)
    return labels


def cut_trees(
    tables: Tensor, lengths: Tensor, sizes: Tensor, linkage: str, *, ties: bool
) -> Tensor:
    """Merge the nearest groups of each document until ``sizes`` are left; number the groups.

    tables   [b, l, l]  distances, squared for ward, on the CPU; overwritten
    lengths  [b]        tokens of each document
    ties     also make the merges that are as near as the last one, so that fewer groups may be
             left. If not, then only groups with no distance between them are merged still.
    returns  [b, l] int64, for each token the number of one token of its group
    """
    labels = np.zeros(tables.shape[:2], dtype=np.int64)
    counts, wanted = lengths.numpy(), sizes.cpu().numpy()
    numbers = tables.numpy()
    if (kernels := compiled()) is None:
        for item, count in enumerate(counts):
            table = numbers[item, :count, :count]
            labels[item, :count] = _cut(table, int(wanted[item]), linkage, ties)
        return torch.from_numpy(labels)

    def run(start: int, end: int) -> None:
        part = slice(start, end)
        bits = numbers[part].view(np.int32 if numbers.dtype == np.float32 else np.int64)
        kind = LINKAGES.index(linkage)
        kernels.agglomerate(
            numbers[part], bits, counts[part], wanted[part], kind, ties, labels[part]
        )

    share_out(len(counts), run)
    return torch.from_numpy(labels)


def _cut(table: NDArray[Any], size: int, linkage: str, ties: bool) -> NDArray[np.int64]:
    """Build the whole tree of one document and cut it."""
    from scipy.cluster.hierarchy import fcluster
    from scipy.spatial.distance import squareform

    count = len(table)
    if count < 2:
        return np.zeros(count, dtype=np.int64)
    near = squareform(table.astype(np.float64), checks=False).clip(0)
    tree = _linkage()(np.sqrt(near) if linkage == "ward" else near, method=linkage)
    heights = tree[:, 2]
    merges = max(count - size, 0)
    last = heights[merges - 1] if ties and merges else 0.0
    merges = max(merges, int(np.searchsorted(heights, last, side="right")))
    order = np.arange(count - 1, dtype=np.float64)
    groups = fcluster(tree, t=merges - 1, criterion="monocrit", monocrit=order)
    return np.asarray(groups, dtype=np.int64) - 1


@cache
def _linkage() -> Callable[..., NDArray[np.float64]]:
    """Return fastcluster's function where it is installed, else scipy's."""
    try:
        from fastcluster import linkage
    except ImportError:
        from scipy.cluster.hierarchy import linkage
    found: Callable[..., NDArray[np.float64]] = linkage
    return found
