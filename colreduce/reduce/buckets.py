"""Documents of like length side by side, for the methods that work on whole batches.

A ragged batch is cut into buckets of padded documents. How far a document is padded depends on
its own length alone and never on its neighbours, so that its products are computed by the same
kernels in every batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.ragged import Ragged
from colreduce.threads import side_by_side

# Numbers of work space that a bucket may take: in cache on a CPU, enough to fill an accelerator.
CPU_ROOM = 1 << 20
DEVICE_ROOM = 1 << 28

# Documents that a bucket holds at least on a CPU, for every thread to have some of them, unless
# they take more room than this.
TOGETHER = 4
CPU_MOST = 1 << 24


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some documents, padded to one length. The vectors are a copy that may be overwritten.

    tokens   [b, l, d] float32, of unit length, zero where there is no token
    mask     [b, l]    bool, true for tokens
    rows     [b, l]    int64, where each token lies in the ragged batch; any row for padding
    sizes    [b]       int64, how many vectors are wanted of each document
    most     int       at least the largest of ``sizes``
    """

    tokens: Tensor
    mask: Tensor
    rows: Tensor
    sizes: Tensor
    most: int

    def take(self, values: Tensor | None, missing: float = 0.0) -> Tensor:
        """Return a number per token [t] as [b, l]; ones if None, ``missing`` for padding."""
        if values is None:
            return self.mask.float()
        return torch.where(self.mask, values[self.rows].float(), missing)

    def cosines(self) -> Tensor:
        """Return the cosine of every two tokens of each document: [b, l, l]; 0 for padding."""
        return torch.bmm(self.tokens, self.tokens.transpose(1, 2))


def buckets(batch: Ragged, sizes: Tensor, *, square: bool = False) -> Iterator[Bucket]:
    """Yield the documents of a batch in buckets.

    ``square`` says that the method compares all tokens with one another, and so how much room a
    document takes.
    """
    for filled in _planned(batch, sizes, square):
        yield filled()


def each_bucket(
    batch: Ragged, sizes: Tensor, work: Callable[[Bucket], None], *, square: bool = False
) -> None:
    """Do ``work`` for every bucket; on the CPU several at a time, so it may share nothing."""
    planned = _planned(batch, sizes, square)
    if batch.device.type == "cpu":
        side_by_side(list(planned), lambda filled: work(filled()), "reduce")
    else:
        for filled in planned:
            work(filled())


def _planned(batch: Ragged, sizes: Tensor, square: bool) -> Iterator[Callable[[], Bucket]]:
    """Yield what fills each bucket."""
    on_cpu = batch.device.type == "cpu"
    offsets = batch.offsets
    for length, most, items in _alike(batch.lengths, sizes):
        each = length * max(length if square else most, batch.dim)
        if on_cpu:
            count = max(CPU_ROOM // each, min(TOGETHER, CPU_MOST // each))
        else:
            count = device_room(batch.device) // each
        count = max(count, 1)
        for start in range(0, len(items), count):
            chosen = torch.from_numpy(items[start : start + count]).to(batch.device)
            yield partial(_bucket, batch, offsets, sizes, chosen, length, min(most, length))


@cache
def device_room(device: torch.device) -> int:
    """Return how many numbers a bucket may take on a device, by the memory that it has.

    A method holds up to a dozen tables of that many numbers, some of them in double precision.
    """
    return min(DEVICE_ROOM, int(torch.cuda.get_device_properties(device).total_memory) // 256)


def _alike(lengths: Tensor, sizes: Tensor) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Yield padded length, padded size and the numbers of the documents that share both."""
    pairs = (lengths << 32 | sizes).cpu().numpy()
    found, kind = np.unique(pairs, return_inverse=True)
    keys: dict[tuple[int, int], int] = {}
    group = [
        keys.setdefault((padded(pair >> 32), padded(pair & (1 << 32) - 1)), len(keys))
        for pair in found.tolist()
    ]
    groups = np.array(group, dtype=np.int64)[kind]
    order = np.argsort(groups, kind="stable")
    bounds = [0, *np.bincount(groups, minlength=len(keys)).cumsum()]
    for (length, most), (start, end) in zip(keys, itertools.pairwise(bounds), strict=True):
        yield length, most, order[start:end]


def padded(length: int) -> int:
    """Return the length to pad to: at most an eighth more, so that few lengths occur."""
    step = max(8, 1 << max(0, length.bit_length() - 4))
    return -(-length // step) * step


def scatter(bucket: Bucket, values: Tensor, out: Tensor) -> None:
    """Write what was found for each token [b, l] to its place in the ragged batch [t]."""
    out[bucket.rows[bucket.mask]] = values[bucket.mask].to(out.dtype)


def _bucket(
    batch: Ragged, offsets: Tensor, sizes: Tensor, items: Tensor, length: int, most: int
) -> Bucket:
    places = torch.arange(length, device=batch.device)
    mask = places < batch.lengths[items][:, None]
    starts = offsets[:-1][items][:, None]
    rows = torch.where(mask, starts + places, starts)
    tokens = batch.tokens.detach()[rows].float()
    # A device adds up a row in an order that depends on how many rows there are.
    exactly = None if batch.device.type == "cpu" else torch.float64
    norms = torch.linalg.vector_norm(tokens, dim=2, dtype=exactly).float()
    norms = torch.where(norms > 0, norms, 1).masked_fill_(~mask, torch.inf)  # padding becomes 0
    return Bucket(tokens.div_(norms[:, :, None]), mask, rows, sizes[items], most)
