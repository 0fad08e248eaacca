"""Codecs against their literal references, and the small parts they are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from colreduce.codec import base
from colreduce.codec.binary import Binary
from colreduce.codec.bits import byte_tables, pack, packed_width, spread, table_products, unpack
from colreduce.codec.floats import Fp16
from colreduce.codec.int4 import Int4
from colreduce.codec.int8 import Int8
from colreduce.codec.kmeans import kmeans, nearest
from colreduce.codec.pq import Pq
from colreduce.codec.residual import Residual
from colreduce.codec.scales import half_scales, radii, radius_of
from colreduce.errors import BadInput
from colreduce.ragged import Ragged
from tests.reference.codecs import pq_numbers, residual_decoded, scaled_steps


def unit_vectors(tokens: int, dim: int, seed: int = 1) -> Tensor:
    return normalize(torch.randn(tokens, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def batch(tokens: Tensor) -> Ragged:
    return Ragged(tokens, torch.tensor([len(tokens)]))


def test_the_largest_number_of_a_vector_becomes_the_last_step():
    codes = Int8().encode(torch.tensor([[127.0, -127.0, 63.4, -0.0]]), {})
    assert codes["scales"].tolist() == [1.0]
    assert codes["tokens"].tolist() == [[127, -127, 63, 0]]


@pytest.mark.parametrize(("codec", "most"), [(Int8(), 127), (Int4(), 7)])
def test_steps_are_those_of_the_reference(codec, most):
    tokens = unit_vectors(200, 16)
    state = codec.fit(batch(tokens), seed=0)
    codes = codec.encode(tokens, state)
    steps = codec.decode(codes, state) / codes["scales"].float().view(-1, 1)
    wanted = np.stack([scaled_steps(row, most) for row in tokens.numpy()])
    assert np.array_equal(steps.round().numpy(), wanted)


def test_int4_puts_the_right_half_into_the_upper_bits():
    codes = Int4().encode(torch.tensor([[7.0, -7.0, 1.0]]), {})
    # Steps 7, -7, 1 and nothing, counted from 8: 15 | 9 << 4 and 1 | 8 << 4.
    assert codes["tokens"].tolist() == [[15 + 16 * 9, 1 + 16 * 8]]
    assert Int4().decode(codes, {"width": torch.tensor(3)}).tolist() == [[7.0, -7.0, 1.0]]


def test_int4_groups_have_steps_of_their_own():
    tokens = torch.cat([torch.full((1, 8), 7.0), torch.full((1, 8), 0.07)], 1)
    codec = Int4(group=8)
    state = codec.fit(batch(tokens), seed=0)
    assert torch.allclose(codec.decode(codec.encode(tokens, state), state), tokens, rtol=1e-3)
    plain = Int4().decode(Int4().encode(tokens, state), state)
    assert plain[0, 8:].tolist() == [0.0] * 8


def test_half_scales_are_rounded_up_and_tiny_ones_are_powers_of_two():
    largest = torch.tensor([0.0, 1e-9, 127 * 1e-6, 0.3, 1.0, 127 * 65504.0])
    scales = half_scales(largest, 127).float()
    assert scales[:2].tolist() == [0.0, 0.0]
    assert scales[2] == 2.0**-19
    assert (scales[2:] * 127 >= largest[2:]).all()
    assert (scales[3:] * 127 <= largest[3:] * (1 + 2**-9)).all()


def test_numbers_beyond_half_precision_are_refused_with_advice():
    with pytest.raises(BadInput, match=r"the number 70000; fp16 reaches 65504.*fp32"):
        Fp16().encode(torch.tensor([[70000.0, 1.0]]), {})
    with pytest.raises(BadInput, match=r"the number 1e\+08; scales .* reach 8.31901e\+06"):
        Int8().encode(torch.tensor([[1e8, 1.0]]), {})


def test_error_radii_are_rounded_up_by_a_tenth_at_most():
    tokens = unit_vectors(500, 8) * torch.logspace(-4, 4, 500)[:, None]
    lengths = tokens.double().norm(dim=1)
    bounds = radius_of(radii(tokens, torch.zeros_like(tokens)))
    assert (bounds >= lengths).all()
    assert (bounds <= lengths * 1.1).all()
    assert radii(tokens, tokens).max() == 0
    with pytest.raises(BadInput, match="too long for this codec"):
        radii(torch.full((1, 8), 1e5), torch.zeros(1, 8))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("width", [1, 7, 16])
def test_packed_numbers_come_back_and_multiply_as_they_should(bits, width):
    generator = torch.Generator().manual_seed(bits)
    numbers = torch.randint(0, 2**bits, (5, width), generator=generator)
    packed = pack(numbers, bits)
    assert packed.shape == (5, packed_width(width, bits)) == (5, math.ceil(width * bits / 8))
    assert torch.equal(unpack(packed, bits, width).long(), numbers)
    values = torch.randn(2**bits, generator=generator)
    assert torch.equal(spread(packed, bits, values, width), values[numbers])
    query = torch.randn(3, width, generator=generator)
    products = table_products(packed, byte_tables(values, query, bits))
    assert torch.allclose(products, values[numbers] @ query.T, atol=1e-5)


def test_the_first_number_takes_the_lowest_bits():
    assert pack(torch.tensor([[1, 2, 3, 0, 2]]), 2).tolist() == [[1 + 2 * 4 + 3 * 16, 2]]


@pytest.mark.parametrize("codec", [Fp16(), Int8(), Int4(), Binary()], ids=str)
def test_products_are_the_same_in_one_piece_and_in_many(codec, monkeypatch):
    tokens, query = unit_vectors(50, 16), unit_vectors(3, 16, seed=2)
    state = codec.fit(batch(tokens), seed=0)
    codes = codec.encode(tokens, state)
    whole = codec.similarities(query, codes, state)
    monkeypatch.setattr(base, "PIECE", 16 * 7)
    assert (codec.similarities(query, codes, state) - whole).abs().max() < 1e-6


def test_kmeans_finds_planted_groups_and_keeps_to_the_number_of_points():
    around = 10 * torch.eye(4)
    points = around.repeat(25, 1) + 0.1 * unit_vectors(100, 4)
    centroids = kmeans(points, 12, seed=0, rounds=5)
    assert centroids.shape == (12, 4)
    assert (points - centroids[nearest(points, centroids)]).norm(dim=1).max() < 0.3
    assert torch.equal(kmeans(points, 12, seed=0, rounds=5), centroids)
    assert kmeans(points[:3], 12, seed=0, rounds=5).shape == (3, 4)


def test_the_nearest_centroid_is_the_nearest_and_of_equals_the_first():
    points, centroids = unit_vectors(50, 6), unit_vectors(9, 6, seed=2) * 3
    assert torch.equal(nearest(points, centroids), torch.cdist(points, centroids).argmin(1))
    assert nearest(points[:1], centroids[:1].expand(4, -1)).tolist() == [0]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_residual_codes_mean_what_the_reference_says(bits):
    tokens = unit_vectors(300, 10)
    codec = Residual(bits=bits)
    state = codec.fit(batch(tokens), seed=0)
    codes = codec.encode(tokens, state)
    decoded = codec.decode(codes, state)
    for row in range(0, 300, 37):
        code = {name: array[row].numpy() for name, array in codes.items()}
        plain = {name: array.numpy() for name, array in state.items()}
        assert np.allclose(decoded[row], residual_decoded(code, plain, bits), atol=1e-6)


def test_residual_takes_the_number_of_centroids_from_the_sample():
    state = Residual().fit(batch(unit_vectors(1000, 8)), seed=0)
    assert len(state["centroids"]) == 256  # 16 * sqrt(1000) = 505.9, rounded down to a power of 2
    assert len(Residual().fit(batch(unit_vectors(9, 8)), seed=0)["centroids"]) == 9
    assert len(state["cutoffs"]) == 3
    assert len(state["weights"]) == 4
    assert (state["weights"][:-1] <= state["cutoffs"]).all()
    assert (state["cutoffs"] <= state["weights"][1:]).all()


def test_more_bits_lose_less():
    tokens = unit_vectors(800, 16)
    lost = []
    for codec in (Residual(bits=1), Residual(bits=2), Residual(bits=4)):
        state = codec.fit(batch(tokens), seed=0)
        lost.append(float((codec.decode(codec.encode(tokens, state), state) - tokens).norm()))
    assert lost[0] > lost[1] > lost[2]


def test_vectors_that_are_not_of_unit_length_keep_their_length():
    tokens = unit_vectors(500, 8) * torch.linspace(1, 5, 500)[:, None]
    for codec in (Residual(bits=4), Pq(parts=4), Binary()):
        state = codec.fit(batch(tokens), seed=0)
        decoded = codec.decode(codec.encode(tokens, state), state)
        ratio = decoded.norm(dim=1) / tokens.norm(dim=1)
        assert 0.7 < float(ratio.median()) < 1.5


@pytest.mark.parametrize("bits", [4, 8])
def test_pq_takes_the_nearest_entry_for_every_part(bits):
    tokens = unit_vectors(300, 12)
    codec = Pq(parts=4, bits=bits)
    state = codec.fit(batch(tokens), seed=0)
    numbers = unpack(codec.encode(tokens, state)["tokens"], bits, 4)
    for row in range(0, 300, 41):
        assert numbers[row].tolist() == pq_numbers(tokens[row].numpy(), state["books"].numpy())


def test_pq_refuses_more_parts_than_numbers():
    with pytest.raises(BadInput, match=r"32 parts, but they are 8 wide. Set parts to 8"):
        Pq(parts=32).fit(batch(unit_vectors(20, 8)), seed=0)


def test_binary_stores_signs_lowest_bit_first():
    codec = Binary()
    tokens = torch.tensor([[0.5, -0.5, 0.5, 0.0]])
    codes = codec.encode(tokens, codec.fit(batch(tokens), seed=0))
    assert codes["tokens"].tolist() == [[0b0101]]


def test_codebooks_are_learned_by_one_thread_and_leave_as_many_as_there_were(monkeypatch):
    from colreduce.codec import kmeans

    before, seen = torch.get_num_threads(), []
    argmax = kmeans._argmax
    monkeypatch.setattr(
        kmeans, "_argmax", lambda rows: (seen.append(torch.get_num_threads()), argmax(rows))[1]
    )
    kmeans.kmeans(torch.randn(64, 4), 8, seed=0, rounds=2)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
