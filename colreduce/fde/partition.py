"""Which block of space a token falls in: the signs of its products with random hyperplanes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from colreduce.fde.config import FdeConfig


def draw_planes(config: FdeConfig, rng: np.random.Generator) -> Tensor:
    """Draw the normals of the hyperplanes: [r, bits, d] float32."""
    shape = (config.repetitions, config.bits, config.dim)
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def block_numbers(tokens: Tensor, planes: Tensor, centre: Tensor | None = None) -> Tensor:
    """Return the block that each token falls in, for every partition: [t, r] int32.

    tokens [t, d]        float32
    planes [r, bits, d]  float32
    centre [d]           float32, subtracted from the tokens before their signs are taken

    Bit b of a number tells on which side of plane b the token lies. Numbers are plain binary: a
    Gray code would only put the blocks in another order.
    """
    repetitions, bits, dim = planes.shape
    if bits == 0:
        return torch.zeros(len(tokens), repetitions, dtype=torch.int32, device=tokens.device)
    sides = _sides(tokens, planes.reshape(-1, dim).to(tokens.device), centre)
    powers = 2.0 ** torch.arange(bits, device=tokens.device)
    numbers = sides.view(-1, bits).float() @ powers  # whole numbers, exact in float32
    return numbers.view(len(tokens), repetitions).int()


def _sides(tokens: Tensor, normals: Tensor, centre: Tensor | None) -> Tensor:
    """Say on which side of each plane each token lies: [t, p] bool.

    The answer is that of exact arithmetic, whatever batch a token is in and whatever the device:
    a sign that float32 cannot be sure of is taken in float64.
    """
    exact = normals.double()
    shift = None if centre is None else exact @ centre.to(tokens.device).double()
    plain = tokens.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
    if not plain:  # TF32 and its like err far more than float32
        products = tokens.double() @ exact.T
        return products > (0 if shift is None else shift)
    products = tokens @ normals.T
    if shift is not None:
        products -= shift.float()
    sides = products > 0
    # A float32 product of d terms errs by less than d * 2**-23 times the lengths of both factors.
    reach = 2 * tokens.shape[1] * 2.0**-23 * float(normals.norm(dim=1).max())
    size = float(torch.linalg.vector_norm(tokens, dim=1).max()) if len(tokens) else 0.0
    if centre is not None:
        size += float(centre.norm())
    unsure = np.flatnonzero((products.abs_() <= reach * size).numpy())
    rows, columns = (torch.from_numpy(part) for part in np.divmod(unsure, len(normals)))
    settled = (tokens[rows].double() * exact[columns]).sum(1)
    sides[rows, columns] = settled > (0 if shift is None else shift[columns])
    return sides
