"""Every selector keeps what its slow reference keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from colreduce.errors import BadInput, BadParameter
from colreduce.method import State
from colreduce.ragged import Ragged
from colreduce.reduce import REDUCERS
from colreduce.reduce.base import Reducer
from tests.reference import cover, dominance, medoids, positions, spread, token_types, voronoi

# No document of two tokens: each is as near to the other, so rounding would choose.
LENGTHS = [1, 3, 7, 8, 9, 16, 31, 64, 65, 90]
DIM = 12
QUERIES = 40


def _batch(lengths: list[int] = LENGTHS, seed: int = 0) -> Ragged:
    """Documents of some topics each, so that tokens repeat one another more or less."""
    draw = np.random.default_rng(seed)
    items, ids, special, weights = [], [], [], []
    for length in lengths:
        topics = draw.normal(size=(max(length // 5, 1), DIM))
        rows = topics[draw.integers(len(topics), size=length)]
        rows = rows + 0.6 * draw.normal(size=(length, DIM))
        items.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
        ids.append(draw.zipf(1.5, size=length).clip(max=60) + 2)
        special.append(np.arange(length) == 0)
        weights.append(draw.random(length).astype(np.float32))
    return Ragged.pack(items, token_ids=ids, special=special, importance=weights)


def _kept(method: Reducer, batch: Ragged, state: State) -> list[list[int]]:
    assignment = method.reduce(batch, state).assignment
    parts = assignment.split(batch.lengths.tolist())
    return [torch.nonzero(part >= 0).flatten().tolist() for part in parts]


def _documents(batch: Ragged) -> list[np.ndarray[Any, Any]]:
    return [item.numpy() for item in batch.unpack()]


Vectors = np.ndarray[Any, Any]
REFERENCES: dict[str, tuple[dict[str, Any], Callable[[Vectors, int], list[int]]]] = {
    "first": ({}, lambda x, m: positions.first(len(x), m)),
    "last": ({}, lambda x, m: positions.last(len(x), m)),
    "stride": ({}, lambda x, m: positions.stride(len(x), m)),
    "random": ({}, lambda x, m: positions.random(len(x), m, seed=7)),
    "kcenter": ({}, spread.kcenter),
    "kcenter sum": ({"aim": "sum"}, lambda x, m: spread.kcenter(x, m, "sum")),
    "coverage": ({}, lambda x, m: sorted(cover.facility_location(x, m)[0])),
    "maxmin": ({}, spread.maxmin),
    "mmr": ({}, lambda x, m: spread.mmr(x, m, 0.5, "central")),
    "mmr distinct": (
        {"worth": "distinct", "trade": 0.3},
        lambda x, m: spread.mmr(x, m, 0.3, "distinct"),
    ),
    "dart": ({}, lambda x, m: spread.dart(x, m, 4)),
    "medoids": ({}, lambda x, m: medoids.medoids(x, m, 10)),
    "medoids segments": (
        {"segments": 3, "iterations": 2},
        lambda x, m: medoids.segmented(x, m, 2, 3),
    ),
    "dominance": ({}, lambda x, m: dominance.dominance(x, m, 8, 2)),
}


@pytest.mark.parametrize("factor", [1.5, 4.0])
@pytest.mark.parametrize("case", REFERENCES)
def test_a_selector_keeps_what_its_reference_keeps(case: str, factor: float) -> None:
    parameters, reference = REFERENCES[case]
    method = REDUCERS[case.split()[0]].build({"factor": factor, **parameters})
    batch = _batch()
    found = _kept(method, batch, method.fit(batch, seed=7))
    for document, kept in zip(_documents(batch), found, strict=True):
        size = max(int(len(document) / factor), 1)
        assert kept == reference(document, size)


def test_voronoi_keeps_what_its_reference_keeps() -> None:
    batch = _batch()
    for queries in ("tokens", "sphere"):
        method = REDUCERS["voronoi"].build({"queries": queries, "samples": QUERIES})
        state = method.fit(batch, seed=0)
        for document, kept in zip(_documents(batch), _kept(method, batch, state), strict=True):
            size = max(len(document) // 4, 1)
            assert kept == voronoi.voronoi(document, state["queries"].numpy(), size)


def test_one_voronoi_threshold_spreads_the_budget_over_the_corpus() -> None:
    batch = _batch()
    method = REDUCERS["voronoi"].build(
        {"ranking": "corpus", "samples": QUERIES, "keep": 0.5, "queries": "sphere"}
    )
    state = method.fit(batch, seed=0)
    queries = state["queries"].numpy()
    costs: list[float] = []
    for document in _documents(batch):
        paid = [cost for _, cost in voronoi.drops(document, queries, 1)]
        costs += np.maximum.accumulate(paid).tolist() if paid else []
    wanted = sum(n - max(n // 2, 1) for n in LENGTHS)
    limit = sorted(costs)[wanted - 1]
    assert float(state["threshold"]) == pytest.approx(limit, abs=1e-6)
    found = _kept(method, batch, state)
    for document, kept in zip(_documents(batch), found, strict=True):
        assert kept == voronoi.voronoi(document, queries, 1, limit + 1e-7)
    assert sum(map(len, found)) == sum(LENGTHS) - wanted


def test_a_corpus_threshold_cannot_be_joined_with_a_budget_by_loss() -> None:
    with pytest.raises(BadParameter, match="corpus"):
        REDUCERS["voronoi"].build({"ranking": "corpus", "error": 0.1})


def test_importance_keeps_the_greatest_weights() -> None:
    batch = _batch()
    assert batch.importance is not None
    weights = [part.numpy() for part in batch.importance.split(batch.lengths.tolist())]
    method = REDUCERS["importance"].build({"factor": 3})
    for given, kept in zip(weights, _kept(method, batch, {}), strict=True):
        assert kept == token_types.importance(given, max(len(given) // 3, 1))
    for sigma in (-0.25, 0.5, 9.0):
        method = REDUCERS["importance"].build({"sigma": sigma})
        for given, kept in zip(weights, _kept(method, batch, {}), strict=True):
            assert kept == token_types.above(given, sigma)


def test_mmr_can_weigh_tokens_by_the_encoder() -> None:
    batch = _batch()
    assert batch.importance is not None
    weights = batch.importance.split(batch.lengths.tolist())
    method = REDUCERS["mmr"].build({"worth": "importance"})
    found = _kept(method, batch, {})
    for document, given, kept in zip(_documents(batch), weights, found, strict=True):
        size = max(len(document) // 4, 1)
        wide = given.numpy().astype(np.float64)
        assert kept == spread.mmr(document, size, 0.5, "importance", wide)
    with pytest.raises(BadInput, match="importance"):
        method.reduce(Ragged(batch.tokens, batch.lengths), {})


def test_norm_keeps_the_longest_and_takes_unit_vectors_for_equal() -> None:
    batch = _batch([20])
    method = REDUCERS["norm"].build({"size": 3})
    assert _kept(method, batch, {}) == [[0, 1, 2]]
    stretched = batch.with_tokens(batch.tokens * torch.linspace(1, 2, 20)[:, None])
    assert _kept(method, stretched, {}) == [[17, 18, 19]]


def test_on_unit_vectors_dominance_drops_nothing_but_duplicates() -> None:
    batch = _batch([40])
    doubled = Ragged.pack([torch.cat([batch.tokens, batch.tokens[:5]])])
    method = REDUCERS["dominance"].build({"epsilon": 1e-3})
    assert _kept(method, batch, {}) == [list(range(40))]
    assert len(_kept(method, doubled, {})[0]) == 40


def test_dominance_finds_mixtures_close_to_the_nearest_there_are() -> None:
    document = _documents(_batch([40]))[0]
    table = document.astype(np.float64) @ document.astype(np.float64).T
    for token in range(40):
        found, _ = dominance.mixture(table, token, list(range(40)), 39, 2)
        others = np.delete(document, token, axis=0)
        exact, _ = dominance.hull_distance(document[token], others)
        assert exact - 1e-4 <= found <= exact * 1.02 + 1e-3


def test_dominance_stops_where_the_next_token_is_too_far_out() -> None:
    batch = _batch()
    for epsilon in (0.3, 0.5):
        method = REDUCERS["dominance"].build({"epsilon": epsilon})
        found = _kept(method, batch, {})
        for document, kept in zip(_documents(batch), found, strict=True):
            assert kept == dominance.dominance(document, 1, 8, 2, epsilon)


def test_a_segment_never_gets_more_vectors_than_it_has() -> None:
    batch = _batch(list(range(1, 40)))
    for segments in (2, 3, 5, 50):
        method = REDUCERS["medoids"].build({"segments": segments, "factor": 1.3})
        kept = _kept(method, batch, {})
        assert [len(k) for k in kept] == [max(int(n / 1.3 + 1e-9), 1) for n in range(1, 40)]
