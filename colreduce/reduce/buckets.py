"""Documents of similar length as one padded tensor, and the way back.

Methods that pick or assign in steps work on a rectangle `[documents, longest, d]`. Padding every
document to the longest of its batch would waste most of it, so documents go by length into
buckets. The padded length is a function of a document's own length, never of its neighbours:
the products taken inside a bucket have the same shape whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.ragged import Ragged

SHORTEST = 8  # documents up to this length share a bucket
CPU_CELLS = 1 << 22  # 16 MB in float32: about what a processor's cache holds
CUDA_CELLS = 1 << 27


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some documents of a batch, filled up with zeros to one length.

    items   [b]        which documents of the batch these are, ascending
    tokens  [b, l, d]  their vectors; zeros behind the end
    mask    [b, l]     bool, true where there is a token
    sizes   [b]        how many vectors to leave of each
    rows    [b, l]     the row of each token in the batch; 0 behind the end
    """

    items: Tensor
    tokens: Tensor
    mask: Tensor
    sizes: Tensor
    rows: Tensor

    @property
    def lengths(self) -> Tensor:
        """Return how many tokens each document has: [b]."""
        return self.mask.sum(1)

    def gather(self, values: Tensor) -> Tensor:
        """Bring per-token values [t] of the batch into the rectangle; zero behind the end."""
        return torch.where(self.mask, values[self.rows], torch.zeros_like(values[:1]))

    def scatter(self, values: Tensor, target: Tensor) -> None:
        """Write per-token values [b, l] of these documents into ``target`` [t] of the batch."""
        target[self.rows[self.mask]] = values[self.mask].to(target.dtype)


def padded_lengths(lengths: Tensor) -> Tensor:
    """Return the length that documents are filled up to: four steps in every power of two."""
    power = torch.floor(torch.log2(lengths.clamp_min(SHORTEST).double())).long()
    step = (torch.ones_like(power) << power) // 4
    padded = (lengths + step - 1) // step * step
    return padded.clamp_min(SHORTEST)


def buckets(
    batch: Ragged, sizes: Tensor, *, square: bool = False, max_cells: int | None = None
) -> Iterator[Bucket]:
    """Yield the documents of ``batch`` in buckets of one padded length, short ones first.

    ``square`` says that the method keeps a table of every token against every other, so that
    a bucket's cells are documents x longest x max(longest, d) instead of documents x longest x d.
    A bucket holds at most ``max_cells`` of them, or one document.
    """
    if max_cells is None:
        max_cells = CUDA_CELLS if batch.device.type == "cuda" else CPU_CELLS
    padded = padded_lengths(batch.lengths)
    order = torch.argsort(padded, stable=True)
    starts = batch.offsets[:-1]
    lengths, counts = torch.unique_consecutive(padded[order], return_counts=True)
    end = 0
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        begin, end = end, end + count
        cells = length * (max(length, batch.dim) if square else batch.dim)
        for items in order[begin:end].split(max(max_cells // cells, 1)):
            yield _bucket(batch, starts, items, sizes, length)


def _bucket(batch: Ragged, starts: Tensor, items: Tensor, sizes: Tensor, length: int) -> Bucket:
    places = torch.arange(length, device=batch.device)
    mask = places < batch.lengths[items][:, None]
    rows = torch.where(mask, starts[items][:, None] + places, torch.zeros_like(places))
    tokens = batch.tokens[rows].masked_fill(~mask[:, :, None], 0)
    return Bucket(items, tokens, mask, sizes[items], rows)
