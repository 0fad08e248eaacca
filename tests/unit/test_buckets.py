"""Documents go into buckets and come back in their places."""

from __future__ import annotations

import torch

from colreduce.ragged import Ragged
from colreduce.reduce.buckets import buckets, padded, scatter


def _batch(lengths: list[int], dim: int = 4) -> Ragged:
    generator = torch.Generator().manual_seed(0)
    return Ragged.pack([torch.randn(length, dim, generator=generator) for length in lengths])


def test_every_token_comes_back_to_its_row() -> None:
    batch = _batch([3, 40, 1, 9, 300, 8, 41, 40])
    values = torch.arange(len(batch.tokens), dtype=torch.float32) + 1
    back = torch.zeros(len(batch.tokens))
    for bucket in buckets(batch, batch.lengths):
        scatter(bucket, bucket.take(values), back)
        assert torch.equal(bucket.mask.sum(1), bucket.sizes)
        assert bool((bucket.tokens[~bucket.mask] == 0).all())
        assert bool((bucket.take(values, missing=-1.0)[~bucket.mask] == -1).all())
    assert torch.equal(back, values)


def test_vectors_in_a_bucket_have_unit_length() -> None:
    for bucket in buckets(_batch([5, 17]), torch.tensor([2, 3])):
        norms = bucket.tokens[bucket.mask].norm(dim=1)
        assert float((norms - 1).abs().max()) < 1e-6


def test_the_padded_length_wastes_at_most_a_quarter_and_seven() -> None:
    for length in range(1, 9000):
        assert length <= padded(length) <= max(8, length * 1.25 + 7)


def test_how_far_a_document_is_padded_does_not_depend_on_its_neighbours() -> None:
    alone = next(iter(buckets(_batch([37]), torch.tensor([9]))))
    together = list(buckets(_batch([37, 500, 2, 38]), torch.tensor([9, 100, 1, 9])))
    assert (alone.tokens.shape[1], alone.most) in [
        (bucket.tokens.shape[1], bucket.most) for bucket in together
    ]
