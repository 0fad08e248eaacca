"""The fast ways to score against the reference, within the bound that float32 sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from colreduce import maxsim as module
from colreduce.codec import CODECS
from colreduce.maxsim import maxsim, maxsim_codes, maxsim_many, segment_max
from colreduce.ragged import Ragged
from tests.reference import maxsim as reference

LENGTHS = [1, 31, 32, 33, 1030, 8192, 2]


def drawn(tokens: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(tokens, dim, generator=torch.Generator().manual_seed(seed))


def rounding(query: Tensor, tokens: Tensor) -> float:
    """How far float32 may be from exact: |Q| d 2**-23 max|q| max|d| 2."""
    longest = float(query.norm(dim=1).max() * tokens.norm(dim=1).max())
    return len(query) * query.shape[1] * 2.0**-23 * longest * 2


def exact(query: Tensor, tokens: Tensor, lengths: list[int]) -> np.ndarray:
    wanted = query.double().numpy()
    parts = tokens.double().split(lengths)
    return np.array([(wanted @ part.numpy().T).max(axis=1).sum() for part in parts])


def test_the_vectorised_reference_is_the_plain_one():
    query, tokens = drawn(4, 6), drawn(12, 6, seed=1)
    plain = [reference.maxsim(query.numpy(), part.numpy()) for part in tokens.split([1, 4, 7])]
    assert np.allclose(exact(query, tokens, [1, 4, 7]), plain, rtol=1e-14)


@pytest.mark.parametrize("queries", [1, 32])
@pytest.mark.parametrize(
    "lengths", [LENGTHS, LENGTHS[::-1], [32] * 40, [1] * 9, [8192], [1030] * 3]
)
def test_scores_are_the_references_whatever_the_lengths(lengths, queries):
    query, tokens = drawn(queries, 16), drawn(sum(lengths), 16, seed=1)
    wanted = exact(query, tokens, lengths)
    for block in (None, 1, 33, 5000, 1 << 20):
        found = maxsim(query, tokens, torch.tensor(lengths), block)
        assert found.dtype == torch.float32
        assert np.abs(found.numpy() - wanted).max() <= rounding(query, tokens)


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    queries=st.integers(1, 9),
    dim=st.integers(1, 40),
    seed=st.integers(0, 1000),
    block=st.integers(1, 300),
)
def test_random_ragged_sets_are_scored_as_by_the_reference(lengths, queries, dim, seed, block):
    query, tokens = drawn(queries, dim, seed), drawn(sum(lengths), dim, seed + 1)
    found = maxsim(query, tokens, torch.tensor(lengths), block).numpy()
    assert np.abs(found - exact(query, tokens, lengths)).max() <= rounding(query, tokens)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_scored_in_float32(dtype):
    query, tokens = drawn(5, 16), drawn(100, 16, seed=1).to(dtype)
    found = maxsim(query.to(dtype), tokens, torch.tensor([40, 60]))
    wanted = exact(query.to(dtype).float(), tokens.float(), [40, 60])
    assert np.abs(found.numpy() - wanted).max() <= rounding(query, tokens.float())


def test_no_documents_have_no_scores():
    none = torch.zeros(0, dtype=torch.long)
    assert maxsim(drawn(3, 4), drawn(0, 4), none).shape == (0,)
    assert segment_max(torch.zeros(3, 0), none).shape == (3, 0)
    assert maxsim_many(Ragged(drawn(3, 4), torch.tensor([1, 2])), drawn(0, 4), none).shape == (2, 0)


@pytest.mark.parametrize("query_lengths", [[4, 4, 4], [1, 9, 2], [5]])
def test_a_batch_of_queries_is_scored_as_one_by_one(query_lengths):
    queries = Ragged(drawn(sum(query_lengths), 8), torch.tensor(query_lengths))
    tokens, lengths = drawn(60, 8, seed=1), torch.tensor([10, 1, 30, 19])
    wanted = torch.stack([maxsim(query, tokens, lengths) for query in queries.unpack()])
    for block in (None, 1, 40):
        found = maxsim_many(queries, tokens, lengths, block)
        assert found.shape == (len(query_lengths), 4)
        assert (found - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("lengths", [[1, 5, 2, 32, 8], [16, 16, 16]])
def test_the_largest_of_each_run_is_exact_in_any_layout(lengths):
    columns = drawn(6, sum(lengths))
    wanted = torch.stack([part.amax(1) for part in columns.split(lengths, 1)], 1)
    for similarities in (
        columns,
        columns.T.contiguous().T,
        columns.repeat(2, 2)[:6, : sum(lengths)],
    ):
        assert torch.equal(segment_max(similarities, torch.tensor(lengths)), wanted)


def test_the_compiled_kernel_finds_the_same_as_numpy(monkeypatch):
    pytest.importorskip("numba", reason="numba is not installed; pip install 'colreduce[fast]'")
    monkeypatch.setattr(module, "WORTH_COMPILING", 0)
    lengths = [1, 31, 32, 33, 1030, 2]
    rows = drawn(sum(lengths), 7)
    rows[0], rows[40] = -torch.inf, torch.inf
    compiled = segment_max(rows.T, torch.tensor(lengths))
    monkeypatch.setattr(module, "has_numba", lambda: False)
    assert torch.equal(compiled, segment_max(rows.T, torch.tensor(lengths)))
    assert torch.equal(compiled[:, 1], rows[1:32].amax(0))


@pytest.mark.parametrize("name", CODECS)
def test_documents_are_scored_straight_from_their_codes(name):
    lengths = [3, 40, 1, 90, 26]
    tokens, query = normalize(drawn(160, 24), dim=1), normalize(drawn(6, 24, seed=2), dim=1)
    codec = CODECS[name].build({"parts": 6} if name == "pq" else {})
    state = codec.fit(Ragged(tokens, torch.tensor(lengths)), seed=0)
    codes = codec.encode(tokens, state)
    wanted = exact(query, codec.decode(codes, state), lengths)
    for block in (1, 50, 1000):
        found = maxsim_codes(
            lambda run: codec.similarities(query, {k: a[run] for k, a in codes.items()}, state),
            torch.tensor(lengths),
            block,
        )
        assert np.abs(found.numpy() - wanted).max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("lengths", [LENGTHS, [32] * 40])
def test_cuda_scores_are_the_references(lengths):
    query, tokens = drawn(32, 16), drawn(sum(lengths), 16, seed=1)
    on_device = torch.tensor(lengths, device="cuda")
    found = maxsim(query.cuda(), tokens.cuda(), on_device)
    wanted = exact(query, tokens, lengths)
    assert np.abs(found.cpu().numpy() - wanted).max() <= rounding(query, tokens)
    queries = Ragged(query.cuda(), torch.tensor([30, 2], device="cuda"))
    both = maxsim_many(queries, tokens.cuda(), on_device).sum(0)
    assert np.abs(both.cpu().numpy() - wanted).max() <= rounding(query, tokens)
