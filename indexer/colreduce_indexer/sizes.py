"""How large the steps of a build are: what they take must fit into the memory there is.

The build itself holds a handful of windows at a time: one is read, one encoded, one reduced, one
written, and between any two stages one may wait. Beside that it holds what a first stage gathers of
one piece, and later of one segment. The model and the libraries are not counted.
"""

from __future__ import annotations

import re

from colreduce.errors import BadInput
from colreduce.ragged import Ragged

# Documents whose digest is kept; all sizes are cut to it.
BLOCK = 256

# A piece is what a stop costs at most, so it is no larger than what takes a few minutes.
MOST_PIECE = 2048

# A window takes its vectors several times over: as encoded, transformed, reduced, and in work.
WINDOW_SHARE = 24
PIECE_SHARE = 8

# First stages sort what they know of a segment's documents: some kilobytes for each.
SEGMENT_BYTES = 16 << 10
MOST_SEGMENT = 1 << 18

LEAST_MEMORY = 64_000_000
_UNITS = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)


def memory(text: str) -> int:
    """Return the bytes that ``2GB``, ``512MB`` or ``1.5GiB`` stand for."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{text!r} is no amount of memory; wanted one like 2GB or 512MB")
    unit = found[2].upper()
    base = 1024 if found[3] else 1000
    size = int(float(found[1]) * (base ** _UNITS[unit] if unit else 1))
    if size < LEAST_MEMORY:
        raise BadInput(f"{text} is too little memory to build in; give at least 64MB")
    return size


def window_size(sample: Ragged, room: int, block: int) -> int:
    """Return how many documents like the sample's are encoded together: a part of a block."""
    size = block
    while size % 2 == 0 and size * _bytes(sample) > room / WINDOW_SHARE:
        size //= 2
    return size


def piece_size(sample: Ragged, room: int, block: int) -> int:
    """Return how many documents make a piece: a few blocks."""
    blocks = int(room / PIECE_SHARE / (block * _bytes(sample)))
    return block * min(max(blocks, 1), max(MOST_PIECE // block, 1))


def segment_pieces(room: int, piece: int) -> int:
    """Return how many pieces are put together into one segment."""
    return max(min(room // SEGMENT_BYTES, MOST_SEGMENT) // piece, 1)


def _bytes(sample: Ragged) -> float:
    """Return what the vectors of a document take on average, as float32."""
    return 4 * sample.dim * len(sample.tokens) / max(len(sample), 1)
