"""Query reducers equal their slow references and keep the scale of scores where they promise to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce.maxsim import maxsim
from colreduce.query import QUERY_REDUCERS
from colreduce.recipe import Recipe
from tests.reference import query as reference

LENGTHS = [1, 2, 5, 8, 9, 32, 50]


def _queries(dim: int = 16) -> list[torch.Tensor]:
    draw = np.random.default_rng(0)
    found = []
    for length in LENGTHS:
        topics = draw.normal(size=(length // 4 + 1, dim))
        rows = topics[draw.integers(len(topics), size=length)] + 0.4 * draw.normal(
            size=(length, dim)
        )
        found.append(torch.tensor(reference.unit(rows), dtype=torch.float32))
    return found


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("size", [1, 4, 8])
def test_kmeans_equals_its_reference(size: int, renormalise: bool) -> None:
    method = QUERY_REDUCERS["query_kmeans"].build({"size": size, "renormalise": renormalise})
    for query in _queries():
        wanted = reference.kmeans(query.numpy(), size, 10, renormalise)
        assert np.allclose(method.shrink(query).numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.7, 1.0])
def test_balls_equal_their_reference(threshold: float) -> None:
    method = QUERY_REDUCERS["query_balls"].build({"threshold": threshold})
    for query in _queries():
        found = method.shrink(query)
        assert np.allclose(found.numpy(), reference.balls(query.numpy(), threshold), atol=1e-5)
        assert torch.allclose(found.sum(0), query.sum(0), atol=1e-5)


@pytest.mark.parametrize("weigh", [True, False])
@pytest.mark.parametrize("by", ["coverage", "distinct"])
def test_top_equals_its_reference(by: str, weigh: bool) -> None:
    method = QUERY_REDUCERS["query_top"].build({"size": 5, "by": by, "weigh": weigh})
    for query in _queries():
        wanted = reference.top(query.numpy(), 5, by, weigh)
        assert np.allclose(method.shrink(query).numpy(), wanted, atol=1e-6)


def test_repeated_vectors_keep_their_weight_in_balls_and_top() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=1)
    query = torch.cat([few, few, few[:2]])
    documents = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    lengths = torch.full((6,), 10)
    scores = maxsim(query, documents, lengths)
    for line in ("query_balls(threshold=1)", "query_top(size=4)"):
        (method,) = Recipe.parse(line).query_reducers
        shorter = method.shrink(query)
        assert len(shorter) == 4
        assert torch.allclose(maxsim(shorter, documents, lengths), scores, atol=1e-5)


def test_the_given_query_is_left_alone_and_half_precision_stays_half() -> None:
    for name, method in QUERY_REDUCERS.items():
        query = _queries()[-1].half()
        before = query.clone()
        found = method().shrink(query)
        assert torch.equal(query, before), name
        assert found.dtype == torch.float16
        assert 1 <= len(found) <= len(query)
        assert bool(torch.isfinite(found).all())


def test_where_vectors_cancel_the_first_stands_in() -> None:
    query = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = QUERY_REDUCERS["query_kmeans"].build({"size": 1}).shrink(query)
    assert found.tolist() == [[1.0, 0.0]]
