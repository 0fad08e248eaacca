"""Products of a few rows with a few columns, whose sums stay in the registers of the CPU.

Multiplying matrices is fast when every number that is loaded is used several times before the next
one is. Here six rows meet two vectors of columns, so each step of the inner loop loads eight times
and multiplies twelve times. The loop is written in the terms of LLVM, because numba would keep the
sums in memory. Libraries do the same, but calling one from Python hands the interpreter's lock
round for every block, and one search has many.

numba looks for changes in the file of the kernel alone, `compiled.py`, before it takes what it kept
on disk: whoever changes this file has to touch that one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 6

# Numbers in a vector: with 512 bits where the CPU has them, else 256.
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8

# Columns that one tile covers.
WIDE = 2 * LANES

_FLOAT, _INDEX, _LANE = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BYTES = 4  # how numbers are aligned in memory


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def tile(context: Any, rows: Any, columns: Any, products: Any, first: Any, column: Any) -> Any:
    """Multiply six rows with ``WIDE`` columns.

    products[first:first+6, column:column+WIDE] = rows[first:first+6] @ columns[:, column:...]

    rows [t, d], columns [d, w], products [t, w]: float32, each contiguous
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, one)
            for kind, one in zip(signature.args[:3], arguments[:3], strict=True)
        ]
        dim, width = (builder.extract_value(arrays[1].shape, place) for place in (0, 1))
        _Tile(builder, arrays, width, arguments[3], arguments[4]).write(dim)
        return context.get_dummy_value()

    return types.void(rows, columns, products, types.int64, types.int64), build


class _Tile:
    """Writes the instructions."""

    def __init__(self, builder: Any, arrays: Any, width: Any, first: Any, column: Any) -> None:
        self._builder = builder
        self._rows, self._columns, self._products = (one.data for one in arrays)
        self._width, self._column = width, column
        self._numbers = [builder.add(first, ir.Constant(_INDEX, row)) for row in range(ROWS)]

    def write(self, dim: Any) -> None:
        builder = self._builder
        sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(2)] for _ in range(ROWS)]
        for one in (one for row in sums for one in row):
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), one)
        starts = [builder.mul(number, dim) for number in self._numbers]
        with cgutils.for_range(builder, dim) as loop:
            base = builder.add(builder.mul(loop.index, self._width), self._column)
            columns = [
                builder.load(place, align=_BYTES) for place in self._both(self._columns, base)
            ]
            for start, row in zip(starts, sums, strict=True):
                number = self._everywhere(self._rows, builder.add(start, loop.index))
                for column, one in zip(columns, row, strict=True):
                    builder.store(self._added(number, column, builder.load(one)), one)
        for number, row in zip(self._numbers, sums, strict=True):
            base = builder.add(builder.mul(number, self._width), self._column)
            for place, one in zip(self._both(self._products, base), row, strict=True):
                builder.store(builder.load(one), place, align=_BYTES)

    def _both(self, array: Any, base: Any) -> list[Any]:
        """Return where the two vectors lie that begin at a place of an array."""
        builder = self._builder
        places = [builder.add(base, ir.Constant(_INDEX, LANES * number)) for number in range(2)]
        return [
            builder.bitcast(builder.gep(array, [place]), _VECTOR.as_pointer()) for place in places
        ]

    def _everywhere(self, array: Any, place: Any) -> Any:
        """Load one number into every lane of a vector."""
        builder = self._builder
        nothing, lanes = ir.Constant(_VECTOR, ir.Undefined), ir.VectorType(_LANE, LANES)
        number = builder.load(builder.gep(array, [place]))
        alone = builder.insert_element(nothing, number, ir.Constant(_LANE, 0))
        return builder.shuffle_vector(alone, nothing, ir.Constant(lanes, [0] * LANES))

    def _added(self, number: Any, column: Any, so_far: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.fmuladd.v{LANES}f32"  # in one instruction where the CPU has one
        multiply_add = cgutils.get_or_insert_function(self._builder.module, kind, name)
        return self._builder.call(multiply_add, [number, column, so_far])
