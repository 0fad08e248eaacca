"""Arrays to and from bytes on the wire, and JSON to and from the fields that carry it.

Whatever comes from the network is checked here in full before anybody computes with it. What
does not fit is a `BadInput` whose ``field`` is the name of the field in the proto.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.rpc import limits
from colreduce.rpc.v1 import tensor_pb2

Matrix: TypeAlias = NDArray[np.float32]

WIRE_TYPES: dict[int, np.dtype[Any]] = {
    tensor_pb2.DTYPE_FP32: np.dtype("<f4"),
    tensor_pb2.DTYPE_FP16: np.dtype("<f2"),
    tensor_pb2.DTYPE_INT8: np.dtype("i1"),
}
SCALE = np.dtype("<f4")

# Squares of lengths that are far enough from what is refused.
SURELY = 1e-30, 0.99 * limits.NORM**2

# Nobody nests a filter this deep; Python's own reader would run out of stack at about a thousand.
JSON_DEPTH = 32


def to_tokens(vectors: Any, field: str = "vectors") -> tensor_pb2.Tokens:
    """Write a [t, d] array or tensor as `Tokens`: half precision as it is, all else as fp32."""
    matrix = _as_array(vectors, field)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ShapeMismatch(
            f"wanted vectors [tokens, width], got shape {matrix.shape}", field=field
        )
    with np.errstate(over="ignore"):  # what becomes infinite is found below
        check_vectors(matrix.astype(np.float32), field)
    half = matrix.dtype == np.float16
    kind = tensor_pb2.DTYPE_FP16 if half else tensor_pb2.DTYPE_FP32
    written = np.ascontiguousarray(matrix, dtype=WIRE_TYPES[kind])
    return tensor_pb2.Tokens(
        data=written.tobytes(), dtype=kind, tokens=written.shape[0], dim=written.shape[1]
    )


def quantised_tokens(
    codes: NDArray[np.int8], scales: NDArray[np.float32], field: str = "vectors"
) -> tensor_pb2.Tokens:
    """Write int8 codes [t, d] with one scale per token [t] as `Tokens`."""
    if codes.ndim != 2 or scales.shape != codes.shape[:1] or codes.dtype != np.int8:
        raise ShapeMismatch(
            f"wanted int8 codes [t, d] and scales [t], got {codes.dtype} {codes.shape} and "
            f"{scales.shape}",
            field=field,
        )
    return tensor_pb2.Tokens(
        data=np.ascontiguousarray(codes).tobytes(),
        dtype=tensor_pb2.DTYPE_INT8,
        tokens=codes.shape[0],
        dim=codes.shape[1],
        scales=np.ascontiguousarray(scales, dtype=SCALE).tobytes(),
    )


def from_tokens(
    message: tensor_pb2.Tokens, field: str, *, most: int = limits.QUERY_TOKENS
) -> Matrix:
    """Read `Tokens` into a float32 matrix [t, d], or say which of its fields is wrong.

    ``field`` is where the message stands in the request; ``most`` is how many tokens it may have.
    """
    if message.dtype not in WIRE_TYPES:
        names = ", ".join(tensor_pb2.DType.Name(kind) for kind in WIRE_TYPES)  # type: ignore[arg-type]
        raise ShapeMismatch(
            f"there is no type {message.dtype}; wanted one of {names}", field=f"{field}.dtype"
        )
    limits.check_count(message.tokens, most, f"{field}.tokens", "the number of vectors")
    limits.check_count(message.dim, limits.DIM, f"{field}.dim", "the width")
    kind = WIRE_TYPES[message.dtype]
    _check_length(
        len(message.data), message.tokens * message.dim * kind.itemsize, f"{field}.data", message
    )
    shape = (message.tokens, message.dim)
    matrix = np.frombuffer(message.data, dtype=kind).reshape(shape).astype(np.float32)
    if message.dtype == tensor_pb2.DTYPE_INT8:
        with np.errstate(over="ignore"):  # what becomes infinite is found below
            matrix *= _scales(message, f"{field}.scales")[:, None]
    elif message.scales:
        raise ShapeMismatch("only DTYPE_INT8 has scales", field=f"{field}.scales")
    return check_vectors(matrix, f"{field}.data")


def check_vectors(matrix: Matrix, field: str) -> Matrix:
    """Return the vectors if all are finite, none is zero and none is absurdly long."""
    squares = np.einsum("td,td->t", matrix, matrix)
    # Single precision is sure of what lies well inside; only what does not is looked at closely.
    if squares.min() > SURELY[0] and squares.max() < SURELY[1]:
        return matrix
    norms = np.sqrt(np.einsum("td,td->t", matrix, matrix, dtype=np.float64))
    # A double holds the square of any float32, so a sum is finite exactly when all values are.
    if not np.isfinite(norms).all():
        token, column = np.argwhere(~np.isfinite(matrix))[0]
        raise BadInput(
            f"vector {token} holds {matrix[token, column]} at place {column}; wanted finite "
            "numbers",
            field=field,
        )
    if norms.min() < limits.LEAST_NORM:
        raise BadInput(
            f"vector {int(np.argmin(norms))} is zero, or nearly: it has no direction to compare",
            field=field,
        )
    if norms.max() > limits.NORM:
        raise BadInput(
            f"vector {int(np.argmax(norms))} is {norms.max():g} long; at most {limits.NORM:g} is "
            "accepted",
            field=field,
        )
    return matrix


def to_json(value: Mapping[str, Any] | None, field: str = "") -> str:
    """Write a mapping as compact JSON; nothing for an empty one."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
    except (TypeError, ValueError) as error:
        raise BadInput(f"cannot be written as JSON: {error}", field=field) from error
    return limits.check_whole(text, field)


def read_metadata(text: str) -> dict[str, Any]:
    """Read what `to_json` wrote."""
    return dict(json.loads(text)) if text else {}


def from_json(text: str, field: str, *, most: int) -> dict[str, Any]:
    """Read a JSON object that somebody sent; nothing is an empty one."""
    limits.check_size(text, most, field, "the JSON text")
    if not text:
        return {}
    if _deepest(text) > JSON_DEPTH:
        raise BadInput(f"nested more than {JSON_DEPTH} deep", field=field)
    try:
        value = json.loads(text, parse_constant=_refused, parse_float=_finite)
    except ValueError as error:
        raise BadInput(f"not valid JSON: {error}", field=field) from error
    if not isinstance(value, dict):
        raise BadInput(f"wanted a JSON object, got {type(value).__name__}", field=field)
    return value


def _as_array(vectors: Any, field: str) -> NDArray[Any]:
    """Accept arrays, nested lists and tensors of any device and type, without importing torch."""
    if hasattr(vectors, "detach"):
        tensor = vectors.detach().cpu()
        is_half = str(tensor.dtype) == "torch.float16"
        vectors = (tensor if is_half else tensor.float()).numpy()
    try:
        matrix = np.asarray(vectors)
    except ValueError as error:
        raise ShapeMismatch(f"the vectors are of different widths: {error}", field=field) from error
    if matrix.dtype.kind not in "fiu":
        raise ShapeMismatch(f"wanted numbers, got {matrix.dtype}", field=field)
    return matrix


def _check_length(got: int, wanted: int, field: str, message: tensor_pb2.Tokens) -> None:
    if got != wanted:
        kind = tensor_pb2.DType.Name(message.dtype)
        raise ShapeMismatch(
            f"{message.tokens} vectors of width {message.dim} in {kind} take {wanted:,} bytes, "
            f"got {got:,}",
            field=field,
        )


def _scales(message: tensor_pb2.Tokens, field: str) -> Matrix:
    wanted = message.tokens * SCALE.itemsize
    if len(message.scales) != wanted:
        raise ShapeMismatch(
            f"{message.tokens} vectors in DTYPE_INT8 need {wanted:,} bytes of scales, "
            f"got {len(message.scales):,}",
            field=field,
        )
    scales = np.frombuffer(message.scales, dtype=SCALE)
    if not (np.isfinite(scales) & (scales > 0)).all():
        bad = int(np.argmin(np.isfinite(scales) & (scales > 0)))
        raise BadInput(
            f"scale {bad} is {scales[bad]}; wanted finite numbers above zero", field=field
        )
    return scales.astype(np.float32)


def _deepest(text: str) -> int:
    """Return how deep the brackets of a JSON text nest at most, those inside strings included."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _refused(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large")
    return value
