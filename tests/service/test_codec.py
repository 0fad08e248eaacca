"""Vectors and JSON on the wire: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.index import limits as index_limits
from colreduce.rpc import codec, limits
from colreduce.rpc.v1 import tensor_pb2

TWO = np.array([[1.0, 2.0], [-3.0, 0.5]], dtype=np.float32)
ONE = np.array([[1.0, 0.0]], dtype=np.float32)


def test_numbers_are_little_endian_and_lie_row_after_row() -> None:
    message = codec.to_tokens(TWO)
    assert message.data.hex() == "0000803f00000040000040c00000003f"
    assert (message.tokens, message.dim, message.dtype) == (2, 2, tensor_pb2.DTYPE_FP32)
    assert message.scales == b""


def test_int8_values_are_the_integers_times_the_scale_of_their_token() -> None:
    codes = np.array([[1, -2], [127, 0]], dtype=np.int8)
    scales = np.array([0.5, 2.0], dtype=np.float32)
    message = codec.quantised_tokens(codes, scales)
    assert codec.from_tokens(message, "x").tolist() == [[0.5, -1.0], [254.0, 0.0]]


@pytest.mark.parametrize(
    "vectors",
    [
        TWO,
        TWO.astype(np.float64),
        TWO.astype(">f4"),
        TWO.astype(np.float16),
        TWO.tolist(),
        TWO[::-1][::-1],
        torch.tensor(TWO),
        torch.tensor(TWO, requires_grad=True),
        torch.tensor(TWO, dtype=torch.float16),
        torch.tensor(TWO, dtype=torch.bfloat16),
    ],
)
def test_arrays_lists_and_tensors_of_any_float_type_are_written_alike(vectors: object) -> None:
    assert codec.from_tokens(codec.to_tokens(vectors), "x").tolist() == TWO.tolist()


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(0.0078125, 100, width=32) | st.floats(-100, -0.0078125, width=32),
    )
)
def test_single_precision_comes_back_bit_for_bit(vectors: np.ndarray) -> None:
    read = codec.from_tokens(codec.to_tokens(vectors), "x")
    assert read.tobytes() == vectors.tobytes()


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones(3), "shape"),
        (np.ones((0, 3)), "shape"),
        (np.ones((3, 0)), "shape"),
        ([[1.0], [1.0, 2.0]], "different widths"),
        ([["a"]], "numbers"),
        (np.array([[np.nan]]), "vector 0 holds nan at place 0"),
        (np.array([[1e300]]), "vector 0 holds inf"),
    ],
)
def test_what_is_no_matrix_of_finite_numbers_is_not_sent(vectors: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        codec.to_tokens(vectors)


def tokens(**changes: object) -> tensor_pb2.Tokens:
    message = codec.to_tokens(TWO)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def fp32(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


INT8 = {"dtype": tensor_pb2.DTYPE_INT8, "data": bytes([1, 2, 3, 4])}

BAD_TOKENS = {
    "no type": (tokens(dtype=0), "dtype"),
    "a type of the future": (tokens(dtype=9), "dtype"),
    "no vectors": (tokens(tokens=0, data=b""), "tokens"),
    "too many vectors": (tokens(tokens=513, data=bytes(513 * 8)), "tokens"),
    "no width": (tokens(dim=0, data=b""), "dim"),
    "too wide": (tokens(dim=4097, data=bytes(2 * 4097 * 4)), "dim"),
    "one byte less": (tokens(data=fp32(1, 2, 3, 4)[:-1]), "data"),
    "one byte more": (tokens(data=fp32(1, 2, 3, 4) + b"\0"), "data"),
    "twice the bytes": (tokens(data=fp32(1, 2, 3, 4) * 2), "data"),
    "no bytes": (tokens(data=b""), "data"),
    "the bytes of another type": (tokens(dtype=tensor_pb2.DTYPE_FP16), "data"),
    "not a number": (tokens(data=fp32(1, np.nan, 3, 4)), "data"),
    "infinite": (tokens(data=fp32(1, 2, 3, np.inf)), "data"),
    "minus infinite": (tokens(data=fp32(-np.inf, 2, 3, 4)), "data"),
    "infinite in half precision": (
        tokens(dtype=tensor_pb2.DTYPE_FP16, data=bytes.fromhex("007c" * 4)),
        "data",
    ),
    "a zero vector": (tokens(data=fp32(1, 2, 0, -0.0)), "data"),
    "a vector too long": (tokens(data=fp32(1, 2, 1e5, 0)), "data"),
    "a vector whose square overflows": (tokens(data=fp32(1, 2, 3e38, 3e38)), "data"),
    "scales for single precision": (tokens(scales=fp32(1, 1)), "scales"),
    "no scales": (tokens(**INT8), "scales"),
    "a scale too many": (tokens(**INT8, scales=fp32(1, 1, 1)), "scales"),
    "a scale of zero": (tokens(**INT8, scales=fp32(1, 0)), "scales"),
    "a negative scale": (tokens(**INT8, scales=fp32(-1, 1)), "scales"),
    "a scale that is no number": (tokens(**INT8, scales=fp32(np.nan, 1)), "scales"),
    "an infinite scale": (tokens(**INT8, scales=fp32(1, np.inf)), "scales"),
    "a scale that overflows": (tokens(**INT8, scales=fp32(3e38, 1)), "data"),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_a_violation_names_its_field(case: str) -> None:
    message, field = BAD_TOKENS[case]
    with pytest.raises(BadInput) as caught:
        codec.from_tokens(message, "query.vectors")
    assert caught.value.field == f"query.vectors.{field}"


def read_or_field(message: tensor_pb2.Tokens) -> tuple[str, np.ndarray | None]:
    try:
        return "", codec.from_tokens(message, "x")
    except BadInput as error:
        return error.field, None


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=200),
    st.integers(0, 4),
    st.integers(0, 600),
    st.integers(0, 20),
    st.binary(max_size=40),
)
def test_random_bytes_are_either_sound_vectors_or_bad_input(
    data: bytes, kind: int, rows: int, dim: int, scales: bytes
) -> None:
    message = tensor_pb2.Tokens(data=data, dtype=kind, tokens=rows, dim=dim, scales=scales)
    field, read = read_or_field(message)
    if read is None:
        assert field.startswith("x.")
    else:
        norms = np.linalg.norm(read.astype(np.float64), axis=1)
        assert read.shape == (rows, dim)
        assert (norms > 0).all()
        assert (norms <= limits.NORM * 1.0001).all()


def test_codes_and_scales_must_fit_each_other() -> None:
    with pytest.raises(ShapeMismatch):
        codec.quantised_tokens(np.ones((2, 2), np.int8), np.ones(3, np.float32))


def test_metadata_comes_back_as_it_was_whole_numbers_included() -> None:
    metadata = {"year": 2020, "id": 2**62 + 1, "name": "Zoë", "tags": ["a", None], "f": 1.0}
    read = codec.read_metadata(codec.to_json(metadata))
    assert read == metadata
    assert type(read["f"]) is float
    assert codec.to_json({}) == ""
    assert codec.read_metadata("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "wanted a JSON object, got list"),
        ('{"a": NaN}', "NaN is not"),
        ('{"a": 1e999}', "too large"),
        ("[" * 10_000, "nested"),
        ('{"a": "' + "b" * 20_000 + '"}', "at most"),
    ],
)
def test_json_that_somebody_sends_is_checked(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        codec.from_json(text, "filter_json", most=16_384)
    assert caught.value.field == "filter_json"


def test_a_json_object_is_read() -> None:
    assert codec.from_json('{"a": {"gte": 2}}', "filter", most=100) == {"a": {"gte": 2}}
    assert codec.from_json("", "filter", most=100) == {}


def test_the_limits_on_the_wire_are_those_of_the_library() -> None:
    assert limits.DIM == index_limits.MAX_DIM
    assert limits.QUERY_TOKENS == index_limits.MAX_QUERY_TOKENS
    assert limits.ID_BYTES == index_limits.MAX_ID_BYTES
    assert limits.K == index_limits.MAX_K
    assert limits.CANDIDATES == index_limits.MAX_CANDIDATES
    assert limits.NORM == index_limits.MAX_NORM


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "..", "a.b", "a" * 65, "ä", "a\n"])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="not a collection's name"):
        limits.check_name(name)


@pytest.mark.parametrize("name", ["a", "0", "a" * 64, "my_index-2"])
def test_a_proper_name_is_accepted(name: str) -> None:
    assert limits.check_name(name) == name


@pytest.mark.parametrize("identifier", ["", "a" * 257, "ä" * 129, "a\0b", "a\nb", "\x7f"])
def test_an_improper_id_is_refused(identifier: str) -> None:
    with pytest.raises(BadInput) as caught:
        limits.check_id(identifier, "ids[0]")
    assert caught.value.field == "ids[0]"
