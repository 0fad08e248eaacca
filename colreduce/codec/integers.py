"""Products of a float query with stored whole numbers, in integer arithmetic where that is faster.

The query is split into two layers of 8 bits, so about 15 bits of it take part: a product differs
from the one in float32 by at most `QUERY_SHARE` of the query vector's largest number for each unit
of the stored vector's summed magnitudes, which is far below what any 8-bit code loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

# The upper layer counts in units, the lower one in 254ths of a unit.
LAYER = 254
# Half a step of the lower layer, as a share of a query vector's largest number.
QUERY_SHARE = 0.5 / (127 * LAYER) * (1 + 2.0**-8)
# Both layers' sums together stay inside int32 up to this width.
WIDEST = 512


def integer_products(query: Tensor, parts: Sequence[Tensor], scales: Tensor) -> Tensor:
    """Return the products of query vectors with scaled rows of small whole numbers.

    query   [q, d]  float32
    parts           int8 [t, d_1], [t, d_2] .., the columns of the rows from left to right
    scales  [t]     float, one per row
    returns [q, t]  float32
    """
    widths = [part.shape[1] for part in parts]
    if parts[0].device.type != "cpu" or sum(widths) > WIDEST or not has_integer_unit():
        pieces = zip(query.split(widths, 1), parts, strict=True)
        products = sum(piece @ part.float().T for piece, part in pieces)
        return products * scales.float()
    largest = query.abs().amax(1, keepdim=True)
    unit = torch.where(largest < 1e-30, 1.0, largest / 127)
    upper = (query / unit).round()
    lower = ((query - upper * unit) * (LAYER / unit)).round().clamp(-127, 127)
    layers = torch.cat([upper, lower]).to(torch.int8)
    pieces = zip(layers.split(widths, 1), parts, strict=True)
    first, *rest = (torch._int_mm(part, piece.T) for piece, part in pieces)
    for more in rest:
        first += more
    sums = torch.add(first[:, len(query) :], first[:, : len(query)], alpha=LAYER)
    # Token by token, as `colreduce.maxsim` likes it best.
    return sums.float().mul_(scales.float()[:, None]).mul_(unit.T / LAYER).T


def query_error(query: Tensor, magnitudes: Tensor) -> Tensor:
    """Bound how far `integer_products` can be from exact: [q, t] float64.

    query      [q, d]  float32
    magnitudes [t]     sum of the magnitudes of each decoded vector
    """
    return QUERY_SHARE * query.double().abs().amax(1)[:, None] * magnitudes.double()


@cache
def has_integer_unit() -> bool:
    """Say whether this machine multiplies int8 exactly and faster than float32.

    Older processors add pairs of products in 16 bits, which overflows at the extremes; the
    functions behind this are private to torch, so they are tried before they are trusted.
    """
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    if supported is None or not hasattr(torch, "_int_mm") or not supported():
        return False
    ends = torch.tensor([127, -128, 127, -127], dtype=torch.int8)
    left, right = ends.repeat(34, 33), ends.roll(1).repeat(40, 33)
    try:
        found = torch._int_mm(left, right.T)
    except RuntimeError:
        return False
    return torch.equal(found.long(), left.long() @ right.long().T)
