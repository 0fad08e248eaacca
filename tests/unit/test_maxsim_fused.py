"""The pass over stored vectors that CUDA devices take, against the reference.

Without such a device the same code runs in Triton's interpreter, on CPU (tests/conftest.py).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed; pip install 'colreduce[gpu]'")

from colreduce.maxsim import backend, maxsim, maxsim_many, triton_kernels, triton_stream
from colreduce.ragged import Ragged
from tests.reference import maxsim as reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = [
    torch.float32,
    torch.float16,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(
            DEVICE == "cpu", reason="Triton's interpreter multiplies the bits of bfloat16"
        ),
    ),
    torch.int8,
]
LENGTHS = [1, 31, 32, 33, 130, 2]


def drawn(rows: int, dim: int, seed: int) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def stored(rows: int, dim: int, kind: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return vectors as they are stored, their scales, and what they stand for."""
    vectors = drawn(rows, dim, 1)
    if kind != torch.int8:
        vectors = vectors.to(kind)
        return vectors.to(DEVICE), None, vectors.double()
    scales = (vectors.abs().amax(1) / 127).half()
    steps = (vectors / scales.float()[:, None]).round().to(torch.int8)
    return steps.to(DEVICE), scales.to(DEVICE), steps.double() * scales.double()[:, None]


def exact(query: Tensor, documents: Tensor, lengths: list[int]) -> np.ndarray:
    parts = documents.split(lengths)
    return np.array([reference.maxsim(query.numpy(), part.numpy()) for part in parts])


def rounding(query: Tensor, documents: Tensor) -> float:
    """How far float32 may be from exact: |Q| d 2**-23 max|q| max|d| 2."""
    longest = float(query.norm(dim=1).max() * documents.norm(dim=1).max())
    return len(query) * query.shape[1] * 2.0**-23 * longest * 2


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[::-1], [32] * 9, [1] * 40, [200]])
@pytest.mark.parametrize("queries", [[1], [5, 1, 70]])
def test_scores_are_the_references_whatever_is_stored(kind, lengths, queries):
    query = drawn(sum(queries), 24, 2)
    tokens, scales, documents = stored(sum(lengths), 24, kind)
    found = triton_kernels.maxsim_packed(
        query.to(DEVICE),
        torch.tensor(queries, device=DEVICE),
        tokens,
        torch.tensor(lengths, device=DEVICE),
        scales,
    )
    assert found.shape == (len(queries), len(lengths))
    for one, scores in zip(query.split(queries), found.cpu(), strict=True):
        wanted = exact(one, documents, lengths)
        assert np.abs(scores.numpy() - wanted).max() <= rounding(one, documents)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[::-1], [32] * 9, [5] * 11, [1] * 40, [200]])
@pytest.mark.parametrize("queries", [[1], [32], [5, 1, 60]])
def test_documents_that_stream_by_have_the_same_scores(kind, lengths, queries):
    query = drawn(sum(queries), 24, 2)
    tokens, scales, documents = stored(sum(lengths), 24, kind)
    found = triton_stream.maxsim_stream(
        query.to(DEVICE),
        torch.tensor(queries, device=DEVICE).cumsum(0),
        tokens,
        len(lengths),
        triton_stream.layout(torch.tensor(lengths, device=DEVICE)),
        scales,
    )
    for one, scores in zip(query.split(queries), found.cpu(), strict=True):
        wanted = exact(one, documents, lengths)
        assert np.abs(scores.numpy() - wanted).max() <= rounding(one, documents)


def test_long_documents_are_cut_into_pieces_and_short_ones_are_not():
    cut = triton_stream.layout(torch.tensor([64, 65, 1, 200]))
    assert (cut.count, cut.lanes, cut.whole) == (8, 64, False)
    assert cut.owners.tolist() == [0, 1, 1, 2, 3, 3, 3, 3]
    assert cut.starts.tolist() == [0, 64, 128, 129, 130, 194, 258, 322]
    assert cut.sizes.tolist() == [64, 64, 1, 1, 64, 64, 64, 8]
    short = triton_stream.layout(torch.tensor([3, 17]))
    assert (short.count, short.lanes, short.whole, short.owners) == (2, 32, True, None)
    assert short.starts.tolist() == [0, 3]
    equal = triton_stream.layout(torch.tensor([20, 20]))
    assert (equal.count, equal.lanes, equal.length, equal.starts) == (2, 32, 20, None)


@pytest.mark.parametrize("dim", [1, 16, 100, 128, 300])
def test_vectors_of_any_width_are_multiplied_whole(dim):
    query = drawn(3, dim, 2)
    for kind in (torch.float32, torch.float16):
        tokens, _, documents = stored(50, dim, kind)
        found = triton_kernels.maxsim_packed(
            query.to(DEVICE),
            torch.tensor([3], device=DEVICE),
            tokens,
            torch.tensor([20, 30], device=DEVICE),
        )[0].cpu()
        wanted = exact(query, documents, [20, 30])
        assert np.abs(found.numpy() - wanted).max() <= rounding(query, documents)


@pytest.mark.parametrize("size", [1e-20, 1e-4, 1e6, 1e20])
def test_queries_of_any_length_keep_their_last_bits(size):
    query = drawn(4, 24, 2) * size
    tokens, _, documents = stored(40, 24, torch.float16)
    found = triton_kernels.maxsim_packed(
        query.to(DEVICE),
        torch.tensor([4], device=DEVICE),
        tokens,
        torch.tensor([40], device=DEVICE),
    )[0].cpu()
    wanted = exact(query, documents, [40])
    assert np.abs(found.numpy() - wanted).max() <= rounding(query, documents)
    cut = triton_stream.layout(torch.tensor([40], device=DEVICE))
    ends = torch.tensor([4], device=DEVICE)
    found = triton_stream.maxsim_stream(query.to(DEVICE), ends, tokens, 1, cut)[0].cpu()
    assert np.abs(found.numpy() - wanted).max() <= rounding(query, documents)


def test_a_query_of_zeros_scores_zero_and_no_documents_have_no_scores():
    tokens = drawn(6, 8, 1).half().to(DEVICE)
    one = torch.tensor([2], device=DEVICE)
    zeros = torch.zeros(2, 8, device=DEVICE)
    lengths = torch.tensor([2, 4], device=DEVICE)
    assert triton_kernels.maxsim_packed(zeros, one, tokens, lengths).tolist() == [[0.0, 0.0]]
    none = torch.zeros(0, dtype=torch.long, device=DEVICE)
    assert triton_kernels.maxsim_packed(zeros, one, tokens[:0], none).shape == (1, 0)


def test_a_processor_is_left_to_torch():
    assert backend("cpu") == "torch"
    assert backend("cuda:1") == "triton"


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="there is no CUDA device")
@pytest.mark.parametrize("lengths", [[32] * 40_000, [60 + number % 241 for number in range(7000)]])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_device_many_documents_stream_and_agree_with_blocks(kind, lengths):
    assert sum(lengths) >= triton_stream.WORTH_STREAMING
    tokens = torch.randn(sum(lengths), 128, device=DEVICE).to(kind)
    query = drawn(32, 128, 2).to(DEVICE)
    counts = torch.tensor(lengths, device=DEVICE)
    blocks = maxsim(query, tokens, counts, 1 << 20)
    bound = rounding(query, tokens.float())
    assert float((maxsim(query, tokens, counts) - blocks).abs().max()) <= bound


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="there is no CUDA device")
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_on_a_device_one_pass_and_blocks_agree(kind):
    lengths = [60 + 7 * number for number in range(40)]
    tokens = drawn(sum(lengths), 128, 1).to(DEVICE, kind)
    queries = Ragged(drawn(40, 128, 2).to(DEVICE), torch.tensor([32, 8], device=DEVICE))
    counts = torch.tensor(lengths, device=DEVICE)
    bound = rounding(queries.tokens, tokens.float())
    blocks = maxsim_many(queries, tokens, counts, 4096)
    assert float((maxsim_many(queries, tokens, counts) - blocks).abs().max()) <= bound
    one = maxsim(queries.tokens[:32], tokens, counts)
    assert float((one - blocks[0]).abs().max()) <= bound
    learning = queries.tokens[:32].clone().requires_grad_()
    maxsim(learning, tokens, counts).sum().backward()
    assert learning.grad is not None
