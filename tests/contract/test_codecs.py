"""What every codec keeps to. A new row in the table is tested without a new line here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from colreduce.codec import CODECS
from colreduce.codec.base import Codec
from colreduce.errors import BadInput
from colreduce.ragged import Ragged
from colreduce.store.tensors import dump, load
from tests.reference.maxsim import maxsim

# Other parameters than the defaults, which are tested for every codec.
FURTHER = {
    "int4": [{"group": 8}],
    "residual": [{"bits": 1}, {"bits": 4}, {"centroids": 3}],
    "pq": [{"parts": 5, "bits": 4}, {"parts": 4, "bits": 4}, {"parts": 24}],
}
SMALL = {"pq": {"parts": 6}}
# The others look their codes up in a codebook, where a decoded vector can be nearer to another.
IDEMPOTENT = ("fp32", "fp16", "int8", "int4", "binary")
WIDTHS = (24, 29)


def cases() -> list[Codec]:
    return [
        codec.build(parameters)
        for name, codec in CODECS.items()
        for parameters in [SMALL.get(name, {}), *FURTHER.get(name, [])]
    ]


def clustered(tokens: int, dim: int, seed: int = 4) -> Tensor:
    """Return unit vectors around a few directions, as the tokens of a text lie."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.randn(7, dim, generator=generator)
    drawn = torch.randint(0, 7, (tokens,), generator=generator)
    return normalize(around[drawn] + 0.7 * torch.randn(tokens, dim, generator=generator), dim=1)


def batch(tokens: Tensor) -> Ragged:
    return Ragged(tokens, torch.tensor([len(tokens)]))


CASES = pytest.mark.parametrize("codec", cases(), ids=str)


@CASES
@pytest.mark.parametrize("dim", WIDTHS)
def test_the_bytes_are_those_that_were_promised(codec, dim):
    tokens = clustered(90, dim)
    codes = codec.encode(tokens, codec.fit(batch(tokens), seed=1))
    assert all(len(array) == 90 for array in codes.values())
    stored = sum(array.numel() * array.element_size() for array in codes.values())
    assert stored == 90 * codec.bytes_per_vector(dim)


@CASES
@pytest.mark.parametrize("dim", WIDTHS)
def test_decoded_vectors_are_float32_and_close_to_what_was_encoded(codec, dim):
    tokens = clustered(90, dim)
    before = tokens.clone()
    state = codec.fit(batch(tokens), seed=1)
    decoded = codec.decode(codec.encode(tokens, state), state)
    assert decoded.dtype == torch.float32
    assert decoded.shape == tokens.shape
    assert torch.nn.functional.cosine_similarity(decoded, tokens).mean() > 0.7
    assert torch.equal(tokens, before)


@CASES
def test_one_vector_is_coded_as_it_is_among_others(codec):
    tokens = clustered(90, 24)
    state = codec.fit(batch(tokens), seed=1)
    together = codec.decode(codec.encode(tokens, state), state)
    alone = torch.cat([codec.decode(codec.encode(row[None], state), state) for row in tokens[:30]])
    assert (together[:30] - alone).abs().max() < 1e-5


@CASES
def test_the_same_seed_gives_the_same_bytes(codec):
    tokens = clustered(90, 24)
    first = codec.encode(tokens, codec.fit(batch(tokens), seed=2))
    second = codec.encode(tokens, codec.fit(batch(tokens), seed=2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@CASES
@pytest.mark.parametrize("queries", [1, 5, 100])
@pytest.mark.parametrize("dim", WIDTHS)
def test_products_from_the_codes_are_those_of_the_decoded_vectors(codec, dim, queries):
    tokens, query = clustered(90, dim), clustered(queries, dim, seed=9)
    state = codec.fit(batch(tokens), seed=1)
    codes = codec.encode(tokens, state)
    products = codec.similarities(query, codes, state)
    assert products.dtype == torch.float32
    assert products.shape == (queries, 90)
    assert (products - query @ codec.decode(codes, state).T).abs().max() < 5e-5


@CASES
@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
def test_the_bound_holds_for_scores_of_vectors_of_any_length(codec, size):
    tokens, query = size * clustered(90, 24), clustered(6, 24, seed=9)
    state = codec.fit(batch(tokens), seed=1)
    for document in (tokens[:1], tokens[10:40], torch.zeros(2, 24), 1.7 * tokens[40:60]):
        codes = codec.encode(document, state)
        bound = codec.error_bound(query, codes, state)
        lost = maxsim(query.numpy(), document.numpy()) - maxsim(
            query.numpy(), codec.decode(codes, state).numpy()
        )
        assert abs(lost) <= bound + 1e-12
        assert bound < 60 * size


@CASES
def test_codes_and_what_was_learned_survive_a_file(codec):
    tokens = clustered(90, 24)
    state = codec.fit(batch(tokens), seed=1)
    codes = codec.encode(tokens, state)
    assert torch.equal(
        codec.decode(codes, state), codec.decode(through_a_file(codes), through_a_file(state))
    )


def through_a_file(arrays):
    written = dump({name: array.numpy() for name, array in arrays.items()})
    return {name: torch.from_numpy(np.array(a)) for name, a in load(written, "memory").items()}


@CASES
def test_zero_vectors_one_vector_and_few_vectors_can_be_coded(codec):
    few = clustered(3, 24)
    state = codec.fit(batch(few), seed=0)
    odd = torch.cat([few, torch.zeros(1, 24), -torch.zeros(1, 24), -few])
    decoded = codec.decode(codec.encode(odd, state), state)
    assert torch.isfinite(decoded).all()
    identical = few[:1].expand(50, -1)
    state = codec.fit(batch(identical), seed=0)
    decoded = codec.decode(codec.encode(identical, state), state)
    assert torch.equal(decoded, decoded[:1].expand(50, -1))


@CASES
def test_numbers_that_do_not_fit_are_refused_and_never_made_infinite(codec):
    tokens = clustered(40, 24)
    state = codec.fit(batch(tokens), seed=0)
    huge = tokens * 1e30
    if codec.name == "fp32":
        assert torch.equal(codec.decode(codec.encode(huge, state), state), huge)
    else:
        with pytest.raises(BadInput, match="fp32") as refused:
            codec.encode(huge, state)
        assert refused.value.field == "vectors"


@pytest.mark.parametrize("codec", [c for c in cases() if c.name in IDEMPOTENT], ids=str)
@pytest.mark.parametrize("size", [1e-8, 1e-6, 3e-4, 1.0, 900.0])
def test_coding_what_was_decoded_changes_nothing(codec, size):
    tokens = torch.cat([size * clustered(90, 29), torch.zeros(1, 29)])
    state = codec.fit(batch(tokens), seed=0)
    codes = codec.encode(tokens, state)
    again = codec.encode(codec.decode(codes, state), state)
    arrays = set(codes) - {"errors"}  # the second time nothing is lost
    assert all(torch.equal(codes[name], again[name]) for name in arrays)


@CASES
def test_no_vectors_give_no_codes(codec):
    tokens = clustered(40, 24)
    state = codec.fit(batch(tokens), seed=0)
    codes = codec.encode(tokens[:0], state)
    assert codec.decode(codes, state).shape == (0, 24)
    assert codec.similarities(tokens[:2], codes, state).shape == (2, 0)
