"""The algebra that encodings obey, each law on numbers small enough to follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce.errors import BadInput, BadParameter, ShapeMismatch
from colreduce.fde import FdeConfig, document_blocks, draw, encode_documents, encode_queries
from colreduce.maxsim import maxsim
from colreduce.ragged import Ragged
from tests.reference import fde as reference


def unit(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


def items(*counts: int, dim: int = 16, seed: int = 0) -> Ragged:
    return Ragged.pack([unit(count, dim, seed + 7 * n) for n, count in enumerate(counts)])


def blocks_of(encodings: torch.Tensor, config: FdeConfig) -> torch.Tensor:
    return encodings.view(len(encodings), config.repetitions, config.blocks, config.block_dim)


def test_with_no_planes_the_product_is_the_query_sum_times_the_document_mean():
    config = FdeConfig(dim=16, repetitions=3, bits=0, projection="none")
    state = draw(config, 1)
    query, document = items(5), items(9, seed=3)
    product = encode_queries(query, config, state) @ encode_documents(document, config, state).T
    expected = 3 * query.tokens.sum(0) @ document.tokens.mean(0)
    assert float(product) == pytest.approx(float(expected), abs=1e-6)


def test_a_document_of_one_token_scores_exactly_its_maxsim():
    config = FdeConfig(dim=16, repetitions=4, bits=5, projection="none")
    state = draw(config, 2)
    query, document = items(6), items(1, seed=5)
    product = encode_queries(query, config, state) @ encode_documents(document, config, state).T
    exact = maxsim(query.tokens, document.tokens, document.lengths)
    assert float(product) == pytest.approx(4 * float(exact), abs=1e-5)


def test_filled_documents_have_no_empty_block_and_unfilled_ones_have_exact_zeros():
    filled = FdeConfig(dim=16, repetitions=4, bits=5, inner_dim=8)
    bare = FdeConfig(dim=16, repetitions=4, bits=5, inner_dim=8, fill=False)
    state = draw(filled, 3)
    documents = items(3, 12, 40)
    with_fill = blocks_of(encode_documents(documents, filled, state), filled)
    without = blocks_of(encode_documents(documents, bare, state), bare)
    assert bool((with_fill.abs().sum(3) > 0).all())
    empty = without.abs().sum(3) == 0
    assert 0 < int(empty.sum()) < empty.numel()
    assert torch.equal(with_fill[~empty], without[~empty])


def test_every_filled_block_holds_the_first_token_of_least_hamming_distance():
    config = FdeConfig(dim=16, repetitions=3, bits=4, projection="none")
    state = draw(config, 4)
    document = items(7)
    blocks = blocks_of(encode_documents(document, config, state), config)[0]
    checked = 0
    for repetition in range(3):
        planes = state["planes"][repetition].double().numpy()
        numbers = [
            reference.block_number(token, planes) for token in document.tokens.double().numpy()
        ]
        for block in set(range(16)) - set(numbers):
            place = reference.nearest_token(numbers, block)
            assert torch.equal(blocks[repetition, block], document.tokens[place])
            checked += 1
    assert checked > 20


def test_a_tie_is_won_by_the_token_that_stands_first_and_by_it_alone():
    config = FdeConfig(dim=2, repetitions=1, bits=2, projection="none")
    state = {"planes": torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])}
    # Blocks 1 and 2 are one bit away from both corners 0 and 3; both corners hold a token.
    there = Ragged.pack([torch.tensor([[0.6, 0.8], [-0.6, -0.8]])])
    back = Ragged.pack([torch.tensor([[-0.6, -0.8], [0.6, 0.8]])])
    forward = encode_documents(there, config, state).view(4, 2)
    backward = encode_documents(back, config, state).view(4, 2)
    assert torch.equal(forward, torch.tensor([[-0.6, -0.8], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8]]))
    assert torch.equal(
        backward, torch.tensor([[-0.6, -0.8], [-0.6, -0.8], [-0.6, -0.8], [0.6, 0.8]])
    )


def test_queries_are_never_filled():
    config = FdeConfig(dim=16, repetitions=4, bits=6, inner_dim=4)
    state = draw(config, 5)
    blocks = blocks_of(encode_queries(items(1), config, state), config)
    assert int((blocks.abs().sum(3) > 0).sum()) == 4


def test_the_encoding_of_two_queries_together_is_the_sum_of_theirs():
    config = FdeConfig(dim=16, repetitions=5, bits=4, inner_dim=8, final_dim=64)
    state = draw(config, 6)
    one, two = items(4), items(6, seed=9)
    both = Ragged.pack([torch.cat([one.tokens, two.tokens])])
    apart = encode_queries(one, config, state) + encode_queries(two, config, state)
    assert torch.allclose(encode_queries(both, config, state), apart, atol=1e-5)


def test_a_longer_query_has_a_longer_encoding_and_nothing_else():
    config = FdeConfig(dim=16, repetitions=5, bits=4, inner_dim=8)
    state = draw(config, 7)
    query = items(6)
    longer = query.with_tokens(query.tokens * 3)
    tripled = 3 * encode_queries(query, config, state)
    assert torch.allclose(encode_queries(longer, config, state), tripled, atol=1e-5)


def test_saying_every_token_twice_changes_no_document():
    config = FdeConfig(dim=16, repetitions=5, bits=4, inner_dim=8)
    state = draw(config, 8)
    document = items(9)
    doubled = Ragged.pack([document.tokens.repeat_interleave(2, dim=0)])
    once, twice = (encode_documents(d, config, state) for d in (document, doubled))
    assert torch.allclose(once, twice, atol=1e-6)


def test_the_order_of_tokens_matters_to_filled_blocks_only():
    config = FdeConfig(dim=16, repetitions=5, bits=5, inner_dim=8, fill=False)
    state = draw(config, 9)
    document = items(20)
    back = document.with_tokens(document.tokens.flip(0))
    forward, backward = (encode_documents(d, config, state) for d in (document, back))
    assert torch.allclose(forward, backward, atol=1e-5)


def test_weights_make_a_merged_document_the_document_it_was_merged_from():
    config = FdeConfig(dim=16, repetitions=5, bits=3, inner_dim=8)
    state = draw(config, 10)
    tokens = unit(6, 16, 1)
    counts = torch.tensor([1, 4, 2, 1, 3, 1])
    whole = Ragged.pack([tokens.repeat_interleave(counts, dim=0)])
    merged = Ragged.pack([tokens], weights=[counts.float()])
    one, other = (encode_documents(d, config, state) for d in (whole, merged))
    assert torch.allclose(one, other, atol=1e-5)
    unweighted = encode_documents(Ragged.pack([tokens]), config, state)
    assert not torch.allclose(one, unweighted, atol=1e-3)


def test_a_seed_gives_the_same_bytes_and_repetitions_differ():
    config = FdeConfig(dim=16, repetitions=3, bits=4, inner_dim=8, final_dim=32)
    one, same, other = draw(config, 11), draw(config, 11), draw(config, 12)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["planes"], other["planes"])
    assert not torch.equal(one["planes"][0], one["planes"][1])
    assert not torch.equal(one["inner"][0], one["inner"][1])
    encoded = [encode_documents(items(5, 8), config, state) for state in (one, same)]
    assert torch.equal(encoded[0], encoded[1])


def test_an_encoding_does_not_depend_on_the_batch_nor_on_the_work_space():
    config = FdeConfig(dim=16, repetitions=3, bits=5, inner_dim=8)
    state = draw(config, 13)
    batch = items(3, 50, 1, 20, 8)
    together = encode_documents(batch, config, state)
    alone = torch.cat(
        [encode_documents(batch.take(slice(i, i + 1)), config, state) for i in range(5)]
    )
    small = list(document_blocks(batch, config, state, floats=1))
    assert [len(part) for part in small] == [1, 1, 1, 1, 1]
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, torch.cat(small), atol=1e-5)


def test_a_sign_too_close_to_call_is_that_of_exact_arithmetic():
    dim = 384
    planes = draw(FdeConfig(dim=dim, repetitions=1, bits=1, projection="none"), 14)["planes"]
    normal = planes[0, 0].double()
    tokens = unit(400, dim, 15).double()
    # Push the tokens onto the plane, as near as float32 can come.
    tokens = (tokens - (tokens @ normal / (normal @ normal))[:, None] * normal).float()
    exact = (tokens.double() @ normal) > 0
    assert 100 < int(exact.sum()) < 300
    from colreduce.fde.partition import block_numbers

    assert torch.equal(block_numbers(tokens, planes)[:, 0] == 1, exact)


def test_centring_moves_the_signs_and_not_the_sums():
    config = FdeConfig(dim=16, repetitions=2, bits=0, projection="none")
    shift = torch.full((16,), 0.7)
    document = items(5)
    plain = encode_documents(document, config, draw(config, 16))
    centred = encode_documents(document, config, draw(config, 16, shift))
    assert torch.equal(plain, centred)
    split = FdeConfig(dim=16, repetitions=8, bits=4, projection="none", fill=False)
    crowded = document.with_tokens(document.tokens * 0.1 + shift)
    states = draw(split, 16), draw(split, 16, shift)
    used = [
        int((blocks_of(encode_documents(crowded, split, state), split).abs().sum(3) > 0).sum())
        for state in states
    ]
    assert used[1] > 2 * used[0]


def test_the_final_sketch_keeps_products_on_average():
    config = FdeConfig(dim=16, repetitions=10, bits=3, inner_dim=8)
    query, document = items(8), items(20, seed=40)
    plain = draw(config, 17)
    exact = encode_queries(query, config, plain) @ encode_documents(document, config, plain).T
    for final in ("count_sketch", "dense"):
        narrow = FdeConfig(dim=16, repetitions=10, bits=3, inner_dim=8, final_dim=320, final=final)
        products = []
        for seed in range(40):
            state = {**plain, **{k: v for k, v in draw(narrow, seed).items() if "final" in k}}
            pair = encode_queries(query, narrow, state), encode_documents(document, narrow, state)
            assert pair[0].shape == (1, 320)
            products.append(float(pair[0] @ pair[1].T))
        spread = np.std(products) / np.sqrt(len(products))
        assert abs(np.mean(products) - float(exact)) < 4 * spread


def test_an_item_without_vectors_is_refused_by_its_number():
    config = FdeConfig(dim=4, repetitions=1, bits=1, inner_dim=2)
    batch = Ragged(torch.ones(3, 4), torch.tensor([2, 0, 1]))
    with pytest.raises(BadInput, match="item 1 has no vectors"):
        encode_documents(batch, config, draw(config, 0))
    with pytest.raises(BadInput, match="item 1 has no vectors"):
        encode_queries(batch, config, draw(config, 0))


def test_vectors_of_another_width_are_refused():
    config = FdeConfig(dim=8, repetitions=1, bits=1, inner_dim=2)
    with pytest.raises(ShapeMismatch, match="16 wide; the encoding takes 8"):
        encode_documents(items(3), config, draw(config, 0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bits": -1}, "bits=-1"),
        ({"bits": 40}, "bits=40"),
        ({"repetitions": 0}, "repetitions=0"),
        ({"inner_dim": 17}, "more than the vectors' width 16"),
        ({"projection": "fast"}, "wanted dense, sparse or none"),
        ({"final_dim": 99999999}, "wanted 1 to 10240"),
        ({"final": "fast"}, "wanted count_sketch or dense"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(BadParameter, match=words):
        FdeConfig(**{"dim": 16, **wrong})


def test_no_documents_have_no_encodings():
    config = FdeConfig(dim=4, repetitions=2, bits=1, inner_dim=2)
    none = Ragged(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    assert encode_documents(none, config, draw(config, 0)).shape == (0, 8)


def test_the_work_of_one_block_is_bounded():
    config = FdeConfig(dim=16, repetitions=20, bits=5, inner_dim=8)
    state = draw(config, 1)
    sizes = [len(part) for part in document_blocks(items(*[4] * 50), config, state, floats=51_200)]
    assert sizes == [10] * 5
