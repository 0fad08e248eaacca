"""Choices that a CUDA device makes document by document, against those made step by step.

Without such a device the same code runs in Triton's interpreter, on CPU (tests/conftest.py).
"""

from __future__ import annotations

import pytest
import torch

from colreduce.ragged import Ragged
from colreduce.reduce.buckets import buckets
from colreduce.reduce.greedy import _nothing, _stepwise
from colreduce.reduce.products import cosines
from colreduce.reduce.spread import grow, nearest_chosen
from colreduce.reduce.whole import Room, whole_products, whole_weights
from tests.contract.reducer_samples import document, documents, vectors, weighed

pytest.importorskip("triton", reason="Triton is not installed; pip install 'colreduce[gpu]'")

from colreduce.reduce import triton_greedy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCHES = {
    "documents": documents(),
    "weighed": weighed(documents()),
    "of like length": Ragged.concat([document(vectors(length, 3)) for length in (40, 37, 39, 33)]),
}


@pytest.mark.parametrize("factor", [1.5, 3, 8])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_seats_are_taken_in_the_same_turns(batch: Ragged, factor: float) -> None:
    batch = batch.to(DEVICE)
    sizes = (batch.lengths / factor).long().clamp_min(1)
    room = Room()
    for bucket in buckets(batch, sizes, square=True):
        weights = whole_weights(bucket, batch.weights)
        table = whole_products(bucket, room).clone()
        wanted = _stepwise(table, bucket, weights)
        turn, owner = triton_greedy.facility_location(
            table,
            _nothing(table)[:, 0].contiguous(),
            bucket.mask.long() if weights is None else weights,
            bucket.mask.sum(1),
            bucket.sizes,
        )
        assert torch.equal(turn, wanted.turn)
        assert torch.equal(owner[bucket.mask], wanted.owner[bucket.mask])


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_tokens_far_apart_are_chosen_in_the_same_order(batch: Ragged, share: float) -> None:
    batch = batch.to(DEVICE)
    sizes = (batch.lengths // 3).clamp_min(1)
    draw = torch.Generator().manual_seed(3)
    for bucket in buckets(batch, sizes, square=True):
        table = cosines(bucket)
        own = torch.rand(bucket.mask.shape, generator=draw, dtype=torch.float64).to(DEVICE)
        own = own if share < 1 else torch.zeros_like(own)
        first = (bucket.mask.sum(1) - 1) // 2
        follow = nearest_chosen(table)

        def gains(last: torch.Tensor, own=own, follow=follow) -> torch.Tensor:  # type: ignore[no-untyped-def]
            return own - share * follow(last).double()

        wanted = grow(bucket, first, gains)
        lengths = bucket.mask.sum(1)
        found = triton_greedy.spread(table, own, share, first, lengths, bucket.sizes)
        assert torch.equal(found, wanted)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="there is no CUDA device")
@pytest.mark.parametrize("length", [125, 300, 1030, 4000])
def test_on_a_device_long_documents_are_picked_from_as_step_by_step(length: int) -> None:
    batch = Ragged.concat([document(vectors(length, seed)) for seed in range(3)]).to(DEVICE)
    sizes = batch.lengths // 8
    for bucket in buckets(batch, sizes, square=True):
        table = whole_products(bucket, Room())
        wanted = _stepwise(table, bucket, None)
        nothing = _nothing(table)[:, 0].contiguous()
        counts, lengths = bucket.mask.long(), bucket.mask.sum(1)
        found = triton_greedy.facility_location(table, nothing, counts, lengths, bucket.sizes)
        assert torch.equal(found[0], wanted.turn)
        assert torch.equal(found[1][bucket.mask], wanted.owner[bucket.mask])
