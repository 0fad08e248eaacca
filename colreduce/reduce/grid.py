"""Blocks of neighbouring patches of a page become one vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Merger


@dataclass(frozen=True, kw_only=True)
class Grid(Merger):
    """Average blocks of neighbouring patches of a page.

    The page is cut into bands, and each band into as many blocks as it takes to leave the vectors
    wanted, all of nearly one size and as square as they can be. The prompt's tokens around the
    patches are averaged in runs of neighbours and get their share of the vectors. A document that
    is no page is cut into runs as by ``window``.
    """

    name = "grid"
    paper = "2D pooling in Light-ColPali, arXiv 2506.04997"
    when = "The floor for pages; nothing is faster."
    needs = ("grid",)

    def group(self, batch: Ragged, sizes: Tensor, state: State) -> Groups:
        """Number each patch by its block, and each other token by its run."""
        first, rows, columns = self._wants(batch, "grid").unbind(1)
        patches = torch.minimum(rows * columns, (batch.lengths - first).clamp_min(0))
        patches = torch.where(patches == rows * columns, patches, 0)
        texts = batch.lengths - patches
        # Where both kinds are there, each gets one vector at least, if there are two.
        share = (2 * sizes * texts + batch.lengths) // (2 * batch.lengths)
        low = ((texts > 0) & (patches > 0) & (sizes > 1)).long()
        runs = torch.maximum(torch.minimum(share, sizes - low * (patches > 0)), low)
        runs = torch.minimum(torch.where(patches > 0, runs, sizes), texts)
        blocks = sizes - runs
        items, place = batch.item_of, batch.positions - first[batch.item_of]
        is_patch = (place >= 0) & (place < patches[items])
        text_place = torch.where(place < 0, batch.positions, batch.positions - patches[items])
        run = text_place * runs[items] // texts[items].clamp_min(1)
        block = _blocks(place.clamp_min(0), blocks[items], rows[items], columns[items])
        # A single vector takes in both kinds.
        block = torch.minimum(block + runs[items], sizes[items] - 1)
        return Groups(torch.where(is_patch, block, run))


def _blocks(place: Tensor, blocks: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Number the blocks of patches [t], given the blocks, rows and columns of their page [t]."""
    blocks, rows, columns = blocks.clamp_min(1), rows.clamp_min(1), columns.clamp_min(1)
    row, column = place // columns, place % columns
    bands = (blocks * rows / columns).double().sqrt().round().long()
    bands = torch.minimum(torch.maximum(bands, (blocks + columns - 1) // columns), rows)
    bands = torch.minimum(bands, blocks).clamp_min(1)
    band = row * bands // rows
    before, after = band * blocks // bands, (band + 1) * blocks // bands
    return before + column * (after - before) // columns
