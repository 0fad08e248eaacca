"""Batched k-means agrees with the literal version."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from colreduce.ragged import Ragged
from colreduce.reduce.kmeans import KMeans
from tests.reference.cover import whole_weights
from tests.reference.documents import some_documents, some_weights
from tests.reference.kmeans import farthest, kmeans, strided


@pytest.mark.parametrize("start", ["stride", "farthest"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("iterations", [0, 1, 6])
def test_tokens_go_to_the_same_centres_as_in_the_literal_version(
    start: str, weighted: bool, iterations: int
) -> None:
    batch = some_documents()
    if weighted:
        batch = dataclasses.replace(batch, weights=some_weights(batch))
    sizes = (batch.lengths // 3).clamp_min(1)
    labels = KMeans(iterations=iterations, start=start).group(batch, sizes, {}).labels
    for item, found in enumerate(labels.split(batch.lengths.tolist())):
        vectors = batch.unpack()[item].numpy()
        size = int(sizes[item])
        seeds = strided(len(vectors), size) if start == "stride" else farthest(vectors, size)
        heavy = (
            batch.weights.split(batch.lengths.tolist())[item] if batch.weights is not None else None
        )
        wanted = kmeans(
            vectors, seeds, iterations, None if heavy is None else whole_weights(heavy.numpy())
        )
        assert found.tolist() == wanted, f"document {item}"


def test_two_clear_clusters_are_found_from_seeds_inside_one_of_them() -> None:
    near = torch.tensor([[1.0, 0.1], [1.0, -0.1], [1.0, 0.0], [0.0, 1.0], [1.0, 0.05], [1.0, 0.0]])
    batch = Ragged.pack([torch.nn.functional.normalize(near, dim=1)])
    left = KMeans(size=2).reduce(batch, {})
    assert left.assignment.tolist() == [0, 0, 0, 1, 0, 0]


def test_a_centre_without_tokens_takes_the_worst_served_one() -> None:
    document = torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    # Both centres start on the same vector, so that the second is left without tokens.
    labels = KMeans(iterations=0).group(Ragged.pack([document]), torch.tensor([2]), {}).labels
    assert labels.tolist() == [1, 0, 0, 0]
