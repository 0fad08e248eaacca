"""Documents go into buckets and come back in their places."""

from __future__ import annotations

import pytest
import torch

from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.reduce.buckets import buckets, padded, scatter
from colreduce.threads import side_by_side


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


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_work_is_shared_by_threads_in_which_torch_is_alone(two_threads):
    seen: list[tuple[int, int, bool]] = []
    with torch.inference_mode():
        side_by_side(
            range(1, 9),
            lambda item: seen.append(
                (item, torch.get_num_threads(), torch.is_inference_mode_enabled())
            ),
            "test",
        )
    assert sorted(seen) == [(item, 1, True) for item in range(1, 9)]
    assert torch.get_num_threads() == 2


def test_what_breaks_in_a_thread_is_told(two_threads):
    def work(item: int) -> None:
        if item == 3:
            raise ValueError("item 3")

    with pytest.raises(ValueError, match="item 3"):
        side_by_side(range(1, 9), work, "test")


@pytest.mark.parametrize("line", ["ward(factor=4)", "cover(factor=4)", "kmeans(factor=4)"])
def test_threads_change_nothing_of_what_is_left(two_threads, line):
    draw = torch.Generator().manual_seed(5)
    lengths = torch.randint(20, 200, (60,), generator=draw)
    tokens = torch.randn(int(lengths.sum()), 32, generator=draw)
    batch = Ragged(torch.nn.functional.normalize(tokens, dim=1), lengths)
    [reducer] = Recipe.parse(line).reducers
    shared = reducer.reduce(batch, {})
    torch.set_num_threads(1)
    alone = reducer.reduce(batch, {})
    assert torch.equal(shared.batch.tokens, alone.batch.tokens)
    assert torch.equal(shared.assignment, alone.assignment)
