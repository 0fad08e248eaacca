"""Small whole numbers laid side by side in bytes: 1, 2, 4 or 8 bits each, lowest bits first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag, pad

# With more query vectors than this, multiplying decoded vectors is faster than table look-ups.
MANY_QUERIES = 64


def packed_width(width: int, bits: int) -> int:
    """Return how many bytes a row of ``width`` numbers takes."""
    return (width * bits + 7) // 8


def pack(numbers: Tensor, bits: int) -> Tensor:
    """Lay numbers side by side.

    numbers [t, d]  any whole type, each in [0, 2**bits)
    returns [t, ceil(d * bits / 8)]  uint8; the bits left over are 0
    """
    each = 8 // bits
    bytes_wide = packed_width(numbers.shape[1], bits)
    filled = pad(numbers.to(torch.uint8), (0, bytes_wide * each - numbers.shape[1]))
    shifted = filled.view(len(numbers), bytes_wide, each) << _shifts(bits, numbers.device)
    return shifted.sum(2, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, width: int) -> Tensor:
    """Undo `pack`: [t, bytes] -> [t, width] uint8."""
    numbers = (packed[:, :, None] >> _shifts(bits, packed.device)) & (2**bits - 1)
    return numbers.view(len(packed), packed.shape[1] * (8 // bits))[:, :width]


def spread(packed: Tensor, bits: int, values: Tensor, width: int) -> Tensor:
    """Replace every number by what it stands for, a byte at a time.

    packed  [t, bytes]  uint8
    values  [2**bits]   float32
    returns [t, width]  float32
    """
    table = values[unpack(every_byte(packed.device), bits, 8 // bits).long()]
    return embedding(packed.int(), table).flatten(1)[:, :width]


def byte_tables(values: Tensor, query: Tensor, bits: int) -> Tensor:
    """Return what each possible byte adds to the products of a query with packed vectors.

    values  [2**bits]           float32, what each number stands for
    query   [q, d]              float32
    returns [bytes, 256, q]     to be given to `table_products`
    """
    each = 8 // bits
    bytes_wide = packed_width(query.shape[1], bits)
    parts = pad(query, (0, bytes_wide * each - query.shape[1])).view(len(query), bytes_wide, each)
    meant = values[unpack(every_byte(query.device), bits, each).long()]
    return torch.einsum("qbe,ve->bvq", parts, meant)


def table_products(codes: Tensor, tables: Tensor) -> Tensor:
    """Add up one table entry for each byte of a code.

    codes   [t, m]       uint8
    tables  [m, 256, q]  float32
    returns [t, q]       float32
    """
    places = torch.arange(codes.shape[1], device=codes.device, dtype=torch.int32) * 256
    return embedding_bag(codes.int() + places, tables.flatten(0, 1), mode="sum")


def every_byte(device: torch.device) -> Tensor:
    """Return the 256 possible bytes as a column."""
    return torch.arange(256, device=device, dtype=torch.uint8)[:, None]


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, device=device, dtype=torch.uint8)
