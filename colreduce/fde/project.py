"""The random projections that make an encoding narrower: one inside the blocks, one at the end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from colreduce.fde.config import FdeConfig
from colreduce.fde.groups import grouped_sums
from colreduce.method import State


def draw_inner(config: FdeConfig, rng: np.random.Generator) -> Tensor:
    """Draw the inner projection of every repetition: [r, d, w] int8 of -1, 0 and 1.

    Dense: every entry is -1 or 1. Sparse: every input has one entry, in a random column.
    """
    shape = (config.repetitions, config.dim, config.block_dim)
    if config.projection == "dense":
        return torch.from_numpy(rng.integers(0, 2, shape, dtype=np.int8) * 2 - 1)
    columns = rng.integers(0, config.block_dim, (*shape[:2], 1))
    signs = (rng.integers(0, 2, (*shape[:2], 1)) * 2 - 1).astype(np.int8)
    inner = np.zeros(shape, dtype=np.int8)
    np.put_along_axis(inner, columns, signs, axis=2)
    return torch.from_numpy(inner)


def project_tokens(tokens: Tensor, config: FdeConfig, inner: Tensor) -> Tensor:
    """Narrow every token for every repetition: [t, d] -> [t, r, w]."""
    flat = inner.to(tokens.device).float().permute(1, 0, 2).reshape(config.dim, -1)
    if config.projection == "dense":
        flat = flat / config.block_dim**0.5
    return (tokens @ flat).view(len(tokens), config.repetitions, config.block_dim)


def draw_final(config: FdeConfig, rng: np.random.Generator) -> dict[str, Tensor]:
    """Draw the final projection.

    final_signs    [f'] or [f', f] int8, -1 or 1
    final_columns  [f'] int32, the output that each input is added to; count sketch only
    """
    wide, narrow = config.inner_width, config.final_dim or config.inner_width
    if config.final == "dense":
        return {"final_signs": torch.from_numpy(_signs(rng, (wide, narrow)))}
    columns = rng.integers(0, narrow, wide, dtype=np.int32)
    signs = torch.from_numpy(_signs(rng, (wide,)))
    return {"final_columns": torch.from_numpy(columns), "final_signs": signs}


def project_whole(encodings: Tensor, config: FdeConfig, state: State) -> Tensor:
    """Narrow whole encodings: [n, f'] -> [n, f]."""
    signs = state["final_signs"].to(encodings.device)
    narrow = int(config.final_dim or config.inner_width)
    if config.final == "dense":
        narrowed = encodings.new_zeros(len(encodings), narrow)
        # Some rows at a time: the signs are stored as bytes and never all turned into floats.
        for start in range(0, len(signs), 4096):
            part = signs[start : start + 4096].float()
            narrowed += encodings[:, start : start + 4096] @ part
        return narrowed / narrow**0.5
    columns = state["final_columns"].to(encodings.device).long()
    order = torch.argsort(columns, stable=True)
    starts = torch.bincount(columns, minlength=narrow).cumsum(0)
    starts = torch.cat([starts.new_zeros(1), starts[:-1]])
    summed: Tensor = grouped_sums(encodings.T.contiguous(), order, starts, signs.float()[order])
    return summed.T


def _signs(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return rng.integers(0, 2, shape, dtype=np.int8) * np.int8(2) - np.int8(1)
