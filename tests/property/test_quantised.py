"""Bounds and round trips of quantised storage, on vectors that hypothesis makes up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from colreduce.codec import CODECS
from colreduce.codec.base import Codec
from colreduce.ragged import Ragged
from tests.reference.maxsim import maxsim

DIM = 12
NUMBERS = st.floats(-40, 40, width=32)
VECTORS = arrays(np.float32, st.tuples(st.integers(1, 9), st.just(DIM)), elements=NUMBERS)
SCALAR = [CODECS[name].build({}) for name in ("fp32", "fp16", "int8", "int4", "binary")]
SCALAR.append(CODECS["int4"].build({"group": 8}))
LEARNED = [
    CODECS["residual"].build({"bits": 1}),
    CODECS["residual"].build({"bits": 4}),
    CODECS["pq"].build({"parts": 3, "bits": 4}),
]


def batch(vectors: np.ndarray) -> Ragged:
    return Ragged(torch.from_numpy(vectors), torch.tensor([len(vectors)]))


@pytest.mark.parametrize("codec", SCALAR + LEARNED, ids=str)
@settings(max_examples=60, deadline=None)
@given(sample=VECTORS, document=VECTORS, query=VECTORS)
def test_a_score_is_never_farther_off_than_its_bound(
    codec: Codec, sample: np.ndarray, document: np.ndarray, query: np.ndarray
):
    state = codec.fit(batch(sample), seed=0)
    codes = codec.encode(torch.from_numpy(document), state)
    bound = codec.error_bound(torch.from_numpy(query), codes, state)
    true, stored = maxsim(query, document), maxsim(query, codec.decode(codes, state).numpy())
    # Double precision itself rounds the two scores.
    assert abs(true - stored) <= bound + 1e-11 * (1 + abs(true))


@pytest.mark.parametrize("codec", SCALAR, ids=str)
@settings(max_examples=60, deadline=None)
@given(document=VECTORS, exponent=st.integers(-30, 5))
def test_coding_what_was_decoded_gives_the_same_bytes(
    codec: Codec, document: np.ndarray, exponent: int
):
    tokens = torch.from_numpy(document) * 2.0**exponent
    state = codec.fit(batch(document), seed=0)
    codes = codec.encode(tokens, state)
    again = codec.encode(codec.decode(codes, state), state)
    assert all(torch.equal(codes[name], again[name]) for name in set(codes) - {"errors"})


@pytest.mark.parametrize("codec", SCALAR + LEARNED, ids=str)
@settings(max_examples=60, deadline=None)
@given(document=VECTORS, query=VECTORS)
def test_products_from_the_codes_are_products_of_decoded_vectors(
    codec: Codec, document: np.ndarray, query: np.ndarray
):
    asked, state = torch.from_numpy(query), codec.fit(batch(document), seed=0)
    codes = codec.encode(torch.from_numpy(document), state)
    decoded = codec.decode(codes, state)
    found = codec.similarities(asked, codes, state)
    longest = asked.double().norm(dim=1).max() * decoded.double().norm(dim=1).max()
    assert (found - asked @ decoded.T).abs().max() <= 1e-4 * longest + 1e-30
