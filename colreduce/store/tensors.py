"""Named arrays in one file, in the safetensors format; read without copying."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from colreduce.errors import BadInput, Damaged

_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_MAX_HEADER = 1 << 20


def dump(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the bytes of a file that holds these arrays; equal arrays give equal bytes."""
    known = set(_DTYPES.values())
    plain = {}
    for name, array in arrays.items():
        array = little_endian(np.asarray(array))
        if array.dtype.str not in known:
            raise BadInput(f"the array {name!r} has the type {array.dtype}, which has no place.")
        plain[name] = array
    return save(plain)


def load(buffer: Any, where: object) -> dict[str, NDArray[Any]]:
    """Return read-only views of the arrays in a file's bytes; every length is checked first."""
    view = memoryview(buffer).cast("B")
    try:
        length = int.from_bytes(view[:8], "little")
        start = 8 + length
        if len(view) < 8 or length > _MAX_HEADER or start > len(view):
            raise ValueError("its header does not fit")
        header = json.loads(bytes(view[8:start]))
        return {
            name: _array(view[start:], entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise Damaged(f"{where} cannot be read: {problem}.") from problem


def _array(data: memoryview, entry: Any) -> NDArray[Any]:
    begin, end = entry["data_offsets"]
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape = [int(size) for size in entry["shape"]]
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(data):
        raise ValueError("an array lies outside the file")
    if end - begin != count * dtype.itemsize:
        raise ValueError("an array's length does not fit its shape")
    array = np.frombuffer(data[begin:end], dtype=dtype).reshape(shape)
    array.setflags(write=False)
    return array


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in C order with little-endian numbers, copying only where it must."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
