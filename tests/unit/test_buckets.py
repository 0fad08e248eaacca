"""Documents go into buckets and come back in their places."""

from __future__ import annotations

import torch

from colreduce.ragged import Ragged
from colreduce.reduce.buckets import buckets, padded_lengths


def _batch(lengths: list[int], dim: int = 4) -> Ragged:
    generator = torch.Generator().manual_seed(0)
    return Ragged.pack([torch.randn(length, dim, generator=generator) for length in lengths])


def test_every_token_comes_back_to_its_row() -> None:
    batch = _batch([3, 40, 1, 9, 300, 8, 41, 40])
    back = torch.zeros(len(batch.tokens))
    seen: list[int] = []
    for bucket in buckets(batch, batch.lengths):
        bucket.scatter(bucket.tokens[:, :, 0], back)
        seen += bucket.items.tolist()
        assert torch.equal(bucket.lengths, batch.lengths[bucket.items])
        assert torch.equal(bucket.sizes, batch.lengths[bucket.items])
        assert torch.equal(bucket.gather(batch.tokens[:, 1]), bucket.tokens[:, :, 1])
        assert bool((bucket.tokens[~bucket.mask] == 0).all())
    assert torch.equal(back, batch.tokens[:, 0])
    assert sorted(seen) == list(range(8))


def test_the_padded_length_wastes_at_most_a_quarter() -> None:
    lengths = torch.arange(8, 9000)
    padded = padded_lengths(lengths)
    assert bool((padded >= lengths).all())
    assert bool((padded <= lengths * 1.25).all())
    assert padded_lengths(torch.tensor([1, 8, 9, 33, 256, 8192])).tolist() == [
        8,
        8,
        10,
        40,
        256,
        8192,
    ]


def test_a_bucket_holds_no_more_cells_than_allowed() -> None:
    batch = _batch([16] * 10)
    assert [len(bucket.items) for bucket in buckets(batch, batch.lengths, max_cells=256)] == [
        4,
        4,
        2,
    ]
    squares = buckets(batch, batch.lengths, square=True, max_cells=256)
    assert [len(bucket.items) for bucket in squares] == [1] * 10
