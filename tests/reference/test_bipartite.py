"""Merging in passes, and VisionZip, agree with their literal versions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from colreduce.reduce.pitome import PiToMe
from colreduce.reduce.tome import ToMe
from colreduce.reduce.visionzip import VisionZip
from tests.reference import bipartite
from tests.reference.cover import whole, whole_weights
from tests.reference.documents import some_documents, some_weights
from tests.reference.kmeans import on_grid
from tests.reference.ward import partition


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("factor", [2, 3, 7])
def test_tome_merges_the_pairs_of_the_literal_version(factor: int, weighted: bool) -> None:
    batch = some_documents()
    if weighted:
        batch = dataclasses.replace(batch, weights=some_weights(batch))
    sizes = (batch.lengths // factor).clamp_min(1)
    labels = ToMe().group(batch, sizes, {}).labels.split(batch.lengths.tolist())
    for item, vectors in enumerate(batch.unpack()):
        heavy = None
        if batch.weights is not None:
            heavy = whole_weights(batch.weights.split(batch.lengths.tolist())[item].numpy())
        wanted = bipartite.tome(vectors.numpy(), int(sizes[item]), heavy)
        assert partition(labels[item].tolist()) == partition(wanted), f"document {item}"


@pytest.mark.parametrize(("margin", "pace"), [(None, 0.25), (0.5, 0.25), (0.3, 0.5)])
def test_pitome_merges_the_pairs_of_the_literal_version(margin: float | None, pace: float) -> None:
    batch = some_documents()
    sizes = (batch.lengths // 3).clamp_min(1)
    method = PiToMe(margin=margin, pace=pace)
    labels = method.group(batch, sizes, {}).labels.split(batch.lengths.tolist())
    for item, vectors in enumerate(batch.unpack()):
        wanted = bipartite.pitome(vectors.numpy(), int(sizes[item]), margin, pace)
        assert partition(labels[item].tolist()) == partition(wanted), f"document {item}"


@pytest.mark.parametrize("by", ["central", "importance"])
@pytest.mark.parametrize("dominant", [0.0, 0.84375, 1.0])
def test_visionzip_leaves_what_the_literal_version_leaves(by: str, dominant: float) -> None:
    batch = some_documents()
    draw = torch.Generator().manual_seed(3)
    batch = dataclasses.replace(batch, importance=torch.rand(len(batch.tokens), generator=draw))
    method = VisionZip(by=by, dominant=dominant, factor=3, renormalise=False)
    left = method.reduce(batch, {}).batch.unpack()
    assert batch.importance is not None
    importance = batch.importance.split(batch.lengths.tolist())
    for item, vectors in enumerate(batch.unpack()):
        if len(left[item]) == len(vectors):
            continue
        strength = importance[item].tolist()
        if by == "central":
            tokens = whole(vectors.numpy())
            mean = on_grid(tokens.astype(np.float64).sum(0, keepdims=True))[0]
            strength = (tokens @ mean).tolist()
        wanted = bipartite.visionzip(vectors.numpy(), len(left[item]), strength, dominant)
        assert torch.allclose(left[item], torch.from_numpy(np.array(wanted)).float(), atol=1e-6)
