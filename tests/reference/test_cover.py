"""Greedy facility location agrees with its literal version, by whichever route it is computed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from colreduce.ragged import Ragged
from colreduce.reduce import greedy
from colreduce.reduce.buckets import buckets
from colreduce.reduce.cover import Cover
from colreduce.reduce.native import compiled
from colreduce.reduce.whole import Room, whole_products
from tests.reference.cover import facility_location, whole_weights
from tests.reference.documents import some_documents, some_weights


def _literal(batch: Ragged, sizes: Tensor) -> tuple[list[int], list[int]]:
    turns: list[int] = []
    owners: list[int] = []
    weights = None if batch.weights is None else batch.weights.split(batch.lengths.tolist())
    for item, vectors in enumerate(batch.unpack()):
        heavy = None if weights is None else whole_weights(weights[item].numpy())
        picks, own = facility_location(vectors.numpy(), int(sizes[item]), heavy)
        turns += [picks.index(token) if token in picks else -1 for token in range(len(vectors))]
        owners += own
    return turns, owners


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_picks_and_their_tokens_are_those_of_the_literal_greedy(
    share: float, weighted: bool
) -> None:
    batch = some_documents()
    if weighted:
        batch = dataclasses.replace(batch, weights=some_weights(batch))
    sizes = (batch.lengths * share).long().clamp_min(1)
    found = greedy.seats(batch, sizes)
    assert (found.turn.tolist(), found.owner.tolist()) == _literal(batch, sizes)
    assert torch.equal(greedy.facility_location(batch, sizes), found.turn)


@pytest.mark.skipif(compiled() is None, reason="numba is not installed")
def test_the_native_route_and_the_batched_route_pick_the_same() -> None:
    batch = some_documents()
    sizes = (batch.lengths // 3).clamp_min(1)
    for bucket in buckets(batch, sizes, square=True):
        table = whole_products(bucket, Room())
        for weights in (None, bucket.mask * (1 + bucket.rows % 3)):
            native = greedy._native(table, bucket, weights)
            stepwise = greedy._stepwise(table, bucket, weights)
            assert torch.equal(native.turn, stepwise.turn)
            assert torch.equal(native.owner, stepwise.owner)


def test_products_of_rounded_vectors_are_whole_and_close_to_the_cosines() -> None:
    batch = some_documents(dim=128)
    for bucket in buckets(batch, batch.lengths):
        exact = torch.bmm(bucket.tokens, bucket.tokens.transpose(1, 2)).double()
        table = whole_products(bucket, Room()).double()
        scale = table.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
        assert float((table / scale - exact).abs().max()) < 0.01


def test_each_seat_becomes_the_mean_of_the_tokens_nearest_to_it() -> None:
    document = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.0, 1.0]])
    left = Cover(size=2, renormalise=False).reduce(Ragged.pack([document]), {})
    assert left.assignment.tolist() == [0, 1, 0, 1]
    assert torch.allclose(left.batch.tokens, torch.tensor([[0.9, 0.3], [0.0, 1.0]]))
    assert left.batch.weights is not None
    assert left.batch.weights.tolist() == [2, 2]
