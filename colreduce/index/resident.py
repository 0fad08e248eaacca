"""The stored vectors of a segment on a CUDA device, where most of them are scored at once.

A few candidates are scored where they are mapped: moving them takes longer. When a search asks for
a large part of a large segment, all of its vectors are moved once, and stay there for later ones.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.device import CPU
from colreduce.maxsim import layout, maxsim_stored, segment_max
from colreduce.pipeline import Pipeline
from colreduce.ragged import runs

if TYPE_CHECKING:
    from colreduce.maxsim.triton_stream import Layout

logger = logging.getLogger(__name__)

# A segment with fewer vectors is scored on the CPU, and so is a search for fewer than this share.
LEAST_VECTORS = 1 << 17
LEAST_SHARE = 0.25
# Of the device's free memory a segment may take this share.
MOST_MEMORY = 0.5
# Vectors scored at a time where similarities are written to memory.
BLOCK_VECTORS = 1 << 22


@dataclass(frozen=True, slots=True)
class _Held:
    """What lies on the device, and how it is cut up where it is scored in one pass."""

    codes: Mapping[str, Tensor]
    lengths: Tensor
    rows: tuple[Tensor, Tensor | None] | None
    cut: Layout | None


class Resident:
    """What a segment has on the pipeline's device: nothing before it is worth it."""

    def __init__(
        self, pipeline: Pipeline, codes: Mapping[str, Tensor], lengths: NDArray[np.int64]
    ) -> None:
        self._pipeline = pipeline
        self._codes = codes
        self._lengths = lengths
        self._guard = threading.Lock()
        self._held: _Held | None = None
        self._refused = False

    def score(
        self, query: Tensor, rows: NDArray[np.int64], check: Callable[[], None]
    ) -> NDArray[np.float32] | None:
        """Return the scores of ``rows``, or None where the CPU has to find them."""
        if self._pipeline.device == CPU or not self._worth(len(rows)):
            return None
        held = self._on_device()
        if held is None:
            return None
        check()
        asked = query.to(self._pipeline.device)
        found = _in_one_pass(asked, held) if held.rows else self._in_blocks(asked, held, check)
        scores: NDArray[np.float32] = found.cpu().numpy()
        return scores[rows]

    def _in_blocks(self, query: Tensor, held: _Held, check: Callable[[], None]) -> Tensor:
        found, start = [], 0
        for first, last in runs(self._lengths, BLOCK_VECTORS):
            check()
            stop = start + int(self._lengths[first:last].sum())
            part = {name: array[start:stop] for name, array in held.codes.items()}
            similarities = self._pipeline.similarities(query, part)
            found.append(segment_max(similarities, held.lengths[first:last]).sum(0))
            start = stop
        return torch.cat(found)

    def _worth(self, asked: int) -> bool:
        vectors = int(self._lengths.sum())
        return vectors >= LEAST_VECTORS and asked >= LEAST_SHARE * len(self._lengths)

    def _on_device(self) -> _Held | None:
        with self._guard:
            if self._held is None and not self._refused:
                where = self._pipeline.device
                size = sum(array.nbytes for array in self._codes.values())
                free, _ = torch.cuda.mem_get_info(where)
                self._refused = size > MOST_MEMORY * free
                if self._refused:
                    logger.info("%d bytes of vectors stay off the device: %d are free", size, free)
                else:
                    self._held = self._moved(where)
            return self._held

    def _moved(self, where: str) -> _Held:
        codes = {name: one.to(where) for name, one in self._codes.items()}
        lengths = torch.from_numpy(self._lengths).to(where)
        rows = self._pipeline.fused(codes)
        return _Held(codes, lengths, rows, layout(lengths) if rows else None)


def _in_one_pass(query: Tensor, held: _Held) -> Tensor:
    assert held.rows is not None
    tokens, scales = held.rows
    return maxsim_stored(query, tokens, held.lengths, scales, held.cut)
