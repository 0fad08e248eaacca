"""Spectral clustering agrees with the literal version."""

from __future__ import annotations

import pytest
import torch

from colreduce.ragged import Ragged
from colreduce.reduce.spectral import Spectral, in_runs
from tests.reference.documents import clustered
from tests.reference.spectral import spectral
from tests.reference.ward import partition


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_groups_are_those_of_the_literal_version(sigma: float) -> None:
    documents = [clustered(length) for length in (3, 9, 17, 40, 41)]
    batch = Ragged.pack(documents)
    sizes = (batch.lengths // 4).clamp_min(1)
    labels = Spectral(sigma=sigma).group(batch, sizes, {}).labels.split(batch.lengths.tolist())
    for item, vectors in enumerate(documents):
        wanted = spectral(vectors.numpy(), int(sizes[item]), sigma, 10)
        assert partition(labels[item].tolist()) == partition(wanted), f"document {item}"


def test_a_ring_inside_another_is_told_from_it() -> None:
    angles = torch.arange(0, 6.28, 0.2)
    rings = torch.cat(
        [
            torch.stack([torch.cos(angles) * r, torch.sin(angles) * r, torch.ones_like(angles)], 1)
            for r in (0.15, 1.0)
        ]
    )
    batch = Ragged.pack([torch.nn.functional.normalize(rings, dim=1)])
    assignment = Spectral(size=2, sigma=0.1).reduce(batch, {}).assignment
    assert assignment.tolist() == [0] * len(angles) + [1] * len(angles)


def test_runs_of_a_long_document_add_up_to_it() -> None:
    batch = Ragged.pack([clustered(100), clustered(7), clustered(33)])
    sizes = torch.tensor([25, 2, 1])
    runs, wanted, before = in_runs(batch, sizes, 16)
    assert runs.lengths.tolist() == [15, 14, 14, 15, 14, 14, 14, 7, 33]
    assert int(wanted[:7].sum()) == 25
    assert before.tolist()[:3] == [0, 3, 7]
    assert wanted.tolist()[7:] == [2, 1]
