"""Budgets by loss: every document gets as many vectors as its loss asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from colreduce.errors import BadParameter
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS
from colreduce.reduce.base import Budgeted
from colreduce.reduce.budget import losses
from tests.reference import budget

DIM = 16


def _corpus(number: int = 60, seed: int = 0) -> Ragged:
    """Documents in turn dull, with three topics, and rich, with one to every second token."""
    draw = np.random.default_rng(seed)
    items = []
    for item in range(number):
        length = int(draw.integers(20, 120))
        topics = draw.normal(size=(3 if item % 2 == 0 else length // 2, DIM))
        rows = topics[draw.integers(len(topics), size=length)]
        rows = rows + 0.1 * draw.normal(size=(length, DIM))
        items.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return Ragged.pack(items)


def _sizes(name: str, batch: Ragged, **parameters: Any) -> torch.Tensor:
    method = REDUCERS[name].build(parameters)
    return method.reduce(batch, method.fit(batch, seed=0)).batch.lengths


@pytest.mark.parametrize("kind", ["mean", "sum", "worst"])
def test_a_loss_is_one_minus_the_cosine_to_the_nearest_vector_left(kind: str) -> None:
    batch = _corpus(12)
    left = REDUCERS["ward"].build({"factor": 5, "renormalise": False}).reduce(batch, {}).batch
    weights = torch.rand(len(batch.tokens)) + 0.5
    weighted = Ragged(batch.tokens, batch.lengths, weights=weights)
    found = losses(weighted, left, kind)
    parts = weights.double().split(batch.lengths.tolist())
    for item, (given, after) in enumerate(zip(batch.unpack(), left.unpack(), strict=True)):
        lost, counts = budget.token_losses(given.numpy(), after.numpy()), parts[item].numpy()
        wanted = {"sum": lost @ counts, "mean": lost @ counts / counts.sum(), "worst": lost.max()}
        assert float(found[item]) == pytest.approx(wanted[kind], abs=1e-4)


@pytest.mark.parametrize("kind", ["mean", "worst"])
@pytest.mark.parametrize("name", ["kcenter", "random"])
def test_error_leaves_the_smallest_number_within_the_bound(name: str, kind: str) -> None:
    batch = _corpus(8)
    sizes = _sizes(name, batch, error=0.2, error_kind=kind)
    for item, document in enumerate(batch.unpack()):
        one = batch.take(slice(item, item + 1))

        def left(size: int, one: Ragged = one) -> np.ndarray[Any, Any]:
            method = REDUCERS[name].build({"size": size})
            return method.reduce(one, method.fit(one, seed=0)).batch.tokens.numpy()

        assert int(sizes[item]) == budget.smallest_size(document.numpy(), left, 0.2, kind)


@pytest.mark.parametrize("name", ["stride", "ward", "window"])
def test_error_is_met_and_one_vector_less_does_not_meet_it(name: str) -> None:
    batch = _corpus(20)
    method = REDUCERS[name].build({"error": 0.2})
    left = method.reduce(batch, {}).batch
    assert float(losses(batch, left, "mean").max()) <= 0.2
    for item, size in enumerate(left.lengths.tolist()):
        one = batch.take(slice(item, item + 1))
        assert size > 1
        less = REDUCERS[name].build({"size": size - 1}).reduce(one, {}).batch
        assert float(losses(one, less, "mean")) > 0.2


def test_an_error_of_zero_drops_nothing_but_what_is_there_twice() -> None:
    batch = _corpus(4)
    assert torch.equal(_sizes("kcenter", batch, error=0.0), batch.lengths)
    twice = Ragged.pack([torch.cat([item, item]) for item in batch.unpack()])
    assert torch.equal(_sizes("kcenter", twice, error=0.0), batch.lengths)


@pytest.mark.parametrize("name", ["ward", "kcenter", "medoids"])
def test_average_is_met_and_the_rich_documents_get_more(name: str) -> None:
    batch = _corpus()
    sizes = _sizes(name, batch, average=12).double()
    assert float(sizes.mean()) == pytest.approx(12, rel=0.02)
    assert float(sizes[1::2].mean()) > 2 * float(sizes[::2].mean())
    fixed = REDUCERS[name].build({"keep": 12 * len(batch) / len(batch.tokens)})
    spread = REDUCERS[name].build({"average": 12})
    assert isinstance(fixed, Budgeted)
    lost = [
        float(losses(batch, method.reduce(batch, method.fit(batch, seed=0)).batch, "sum").sum())
        for method in (fixed, spread)
    ]
    assert lost[1] < 0.9 * lost[0]


def test_documents_choose_the_size_at_which_loss_and_price_are_least() -> None:
    batch = _corpus(10)
    method = REDUCERS["kcenter"].build({"average": 9})
    state = method.fit(batch, seed=0)
    sizes = method.reduce(batch, state).batch.lengths.tolist()
    for item, document in enumerate(batch.unpack()):
        one, length = batch.take(slice(item, item + 1)), len(document)
        tried = [1 << power for power in range(length.bit_length()) if 1 << power < length]
        lost = []
        for size in tried:
            left = REDUCERS["kcenter"].build({"size": size}).reduce(one, {}).batch
            lost.append(float(budget.token_losses(document.numpy(), left.tokens.numpy()).sum()))
        chosen = budget.cheapest_size([*tried, length], [*lost, 0.0], float(state["price"]))
        assert sizes[item] == chosen


def test_a_document_gets_the_same_size_in_every_batch() -> None:
    batch = _corpus(20)
    for parameters in ({"average": 10}, {"error": 0.1}, {"error": 0.4, "error_kind": "worst"}):
        method = REDUCERS["kcenter"].build(parameters)
        state = method.fit(batch, seed=0)
        together = method.reduce(batch, state).batch
        for item in (0, 7, 19):
            alone = method.reduce(batch.take(slice(item, item + 1)), state).batch
            assert torch.equal(alone.tokens, together.unpack()[item])


def test_protected_vectors_stay_and_count() -> None:
    batch = _corpus(10)
    for parameters in ({"average": 10}, {"error": 0.2}, {"error": 2.0}):
        method = REDUCERS["ward"].build({"protect": 3, **parameters})
        left = method.reduce(batch, method.fit(batch, seed=0)).batch
        assert int(left.lengths.min()) >= 4
        for before, after in zip(batch.unpack(), left.unpack(), strict=True):
            assert torch.equal(before[:3], after[:3])
        if "average" in parameters:
            assert float(left.lengths.double().mean()) == pytest.approx(10, rel=0.05)


def test_an_average_above_every_length_keeps_everything() -> None:
    batch = _corpus(5)
    assert torch.equal(_sizes("kcenter", batch, average=500), batch.lengths)


def test_one_budget_is_named_at_a_time() -> None:
    with pytest.raises(BadParameter, match="factor and average"):
        REDUCERS["ward"].build({"factor": 4, "average": 10})
    with pytest.raises(BadParameter, match="size and sigma"):
        REDUCERS["importance"].build({"size": 4, "sigma": 0.5})
