"""Weighted k-means and k-medoids agree with the literal version."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from colreduce.errors import BadInput
from colreduce.ragged import Ragged
from colreduce.reduce.weighted import WeightedKMeans, WeightedMedoids
from tests.reference.cover import whole, whole_weights
from tests.reference.documents import some_documents
from tests.reference.kmeans import kmeans, rounded, strided


def _batch() -> Ragged:
    batch = some_documents()
    draw = torch.Generator().manual_seed(3)
    count = len(batch.tokens)
    return dataclasses.replace(
        batch,
        token_ids=torch.randint(5, 40, (count,), generator=draw),
        special=batch.positions == 0,
        importance=torch.rand(count, generator=draw) + 0.05,
    )


def _literal_weights(batch: Ragged, kind: str) -> torch.Tensor:
    if kind == "importance":
        assert batch.importance is not None
        return batch.importance
    if kind == "uniform":
        return torch.ones(len(batch.tokens))
    assert batch.token_ids is not None
    assert batch.special is not None
    ids, items = batch.token_ids.tolist(), batch.item_of.tolist()
    holds: dict[int, set[int]] = {}
    for token, item, special in zip(ids, items, batch.special.tolist(), strict=True):
        if not special:
            holds.setdefault(token, set()).add(item)
    return torch.tensor(
        [
            np.log(1 + len(batch) / (len(batch) if special else len(holds.get(token, {0}))))
            for token, special in zip(ids, batch.special.tolist(), strict=True)
        ]
    )


@pytest.mark.parametrize("kind", ["idf", "importance", "uniform"])
def test_centres_are_pulled_and_means_weighed_as_in_the_literal_version(kind: str) -> None:
    batch = _batch()
    method = WeightedKMeans(weights=kind, factor=3, iterations=5, renormalise=False)
    reduced = method.reduce(batch, method.fit(batch, seed=0))
    weights = _literal_weights(batch, kind).split(batch.lengths.tolist())
    for item, vectors in enumerate(batch.unpack()):
        size = int(reduced.batch.lengths[item])
        if size == len(vectors):
            continue
        heavy = whole_weights(weights[item].numpy().astype(np.float32))
        labels = kmeans(vectors.numpy(), strided(len(vectors), size), 5, heavy)
        numbers = list(dict.fromkeys(labels))
        assert reduced.assignment.split(batch.lengths.tolist())[item].tolist() == [
            numbers.index(label) for label in labels
        ]
        for row, number in zip(reduced.batch.unpack()[item], numbers, strict=True):
            inside = torch.tensor(labels) == number
            mean = (vectors * weights[item][:, None])[inside].sum(0) / weights[item][inside].sum()
            assert torch.allclose(row, mean.float(), atol=1e-5)


def test_medoids_are_the_real_tokens_of_the_literal_version() -> None:
    batch = _batch()
    method = WeightedMedoids(weights="importance", factor=3, iterations=5)
    reduced = method.reduce(batch, {})
    weights = _literal_weights(batch, "importance").split(batch.lengths.tolist())
    for item, vectors in enumerate(batch.unpack()):
        size = int(reduced.batch.lengths[item])
        if size == len(vectors):
            continue
        heavy = whole_weights(weights[item].numpy())
        tokens = whole(vectors.numpy())
        labels = kmeans(vectors.numpy(), strided(len(vectors), size), 5, heavy, real=True)
        numbers = list(dict.fromkeys(labels))
        means = [
            sum(heavy[t] * tokens[t] for t, label in enumerate(labels) if label == number)
            for number in range(size)
        ]
        centres = rounded(np.array(means, dtype=np.float64))
        for row, number in zip(reduced.batch.unpack()[item], numbers, strict=True):
            centre = centres[number]
            inside = [token for token, label in enumerate(labels) if label == number]
            middle = max(inside, key=lambda token: (float(tokens[token] @ centre), -token))
            assert torch.equal(row, vectors[middle])


def test_what_a_token_counts_by_must_be_known() -> None:
    bare = some_documents()
    with pytest.raises(BadInput, match="needs token_ids"):
        WeightedKMeans().fit(bare, seed=0)
    with pytest.raises(BadInput, match="needs importance"):
        WeightedMedoids(weights="importance").reduce(bare, {})
