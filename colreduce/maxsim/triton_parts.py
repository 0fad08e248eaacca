"""What both kernels of MaxSim are made of: products that are as exact as float32's.

float16, bfloat16 and int8 numbers are exact in the type they are multiplied in. The query is not,
so it is taken apart into two or three such numbers that add up to it, and all of them are
multiplied: the scores are as near to the exact ones as products of float32 are. float32 vectors
are multiplied by three products of TF32 that together hold all but the last bits (``tf32x3``), or
number by number (``ieee``); a single product of TF32 never takes their place.
"""

from __future__ import annotations

import triton
import triton.language as tl

# What the tensor cores take at least, in every direction.
LEAST = 16
# How float32 is multiplied if nobody says.
PRECISION = "tf32x3"


def power(number: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def leading(number):  # type: ignore[no-untyped-def]
    """Return the largest power of two that is not above a number, and its inverse; 1 for 0.

    Numbers are multiplied by the inverse: far from 1 they would not fit into float16, or lose bits
    there. Both are put together from their bits, because a device divides by a power of two no
    more exactly than by any other number.
    """
    bits = tl.minimum(number.to(tl.int32, bitcast=True) & 0x7F800000, 253 << 23)
    bits = tl.where(bits == 0, 127 << 23, bits)
    inverse = ((254 << 23) - bits).to(tl.float32, bitcast=True)
    return bits.to(tl.float32, bitcast=True), inverse


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def multiplied(block, rest, products, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add the products of stored rows with float32 columns, taken apart into the rows' type."""
    if block.dtype == tl.float32:
        products = tl.dot(block, rest, products, input_precision=PRECISION)
    elif block.dtype == tl.bfloat16:
        high = rest.to(tl.bfloat16)
        middle = (rest - high.to(tl.float32)).to(tl.bfloat16)
        low = (rest - high.to(tl.float32) - middle.to(tl.float32)).to(tl.bfloat16)
        products = tl.dot(block, low, products)
        products = tl.dot(block, middle, products)
        products = tl.dot(block, high, products)
    else:
        high = rest.to(tl.float16)
        low = (rest - high.to(tl.float32)).to(tl.float16)
        products = tl.dot(block.to(tl.float16), low, products)
        products = tl.dot(block.to(tl.float16), high, products)
    return products
