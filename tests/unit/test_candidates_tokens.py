"""Lists by centroid against the literal way."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.centroids import nearest, spherical_centroids
from colreduce.candidates.tokens import Tokens, TokensSearcher
from colreduce.errors import ShapeMismatch
from colreduce.ragged import Ragged
from tests.reference import tokens as reference
from tests.reference.first_stages import segment


def spread(count: int, seed: int, dim: int = 8) -> Documents:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (count,), generator=generator)
    tokens = torch.randn(int(lengths.sum()), dim, generator=generator)
    batch = Ragged(torch.nn.functional.normalize(tokens, dim=1), lengths)
    return Documents(batch, batch, [None] * count)


def filed_under(documents: Documents, centroids: torch.Tensor) -> list[set[int]]:
    owners = [
        (tokens.double() @ centroids.double().T).argmax(1) for tokens in documents.tokens.unpack()
    ]
    return [set(owner.tolist()) for owner in owners]


def opened(method: Tokens, documents: Documents) -> tuple[TokensSearcher, torch.Tensor]:
    state = method.fit(documents, seed=3)
    searcher = method.open(segment(method, state, [documents]), state)
    assert isinstance(searcher, TokensSearcher)
    return searcher, state["centroids"]


@pytest.mark.parametrize(("probes", "reach"), [(2, 10), (5, 60), (20, 30)])
def test_ranking_equals_the_document_by_document_imputation(probes, reach):
    documents = spread(80, 1)
    method = Tokens(centroids=24, probes=probes, reach=reach)
    searcher, centroids = opened(method, documents)
    for seed in range(5):
        query = spread(1, 50 + seed).tokens.tokens
        expected = reference.imputed_scores(
            query.double().numpy(),
            centroids.double().numpy(),
            filed_under(documents, centroids),
            probes,
            reach,
        )
        k = min(5, len(expected))
        [found] = searcher.search([Query(query)], k)
        best = sorted(expected.values(), reverse=True)[:k]
        np.testing.assert_allclose(found.scores, best, atol=1e-5)
        for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            assert expected[row] == pytest.approx(score, abs=1e-5)


def test_interaction_takes_the_best_centroid_of_each_query_token():
    documents = spread(60, 2)
    searcher, centroids = opened(Tokens(centroids=20, probes=20, score="interaction"), documents)
    filed = filed_under(documents, centroids)
    query = spread(1, 9).tokens.tokens
    [found] = searcher.search([Query(query)], 60)
    wide = centroids.double().numpy()
    for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
        exact = reference.interaction(query.double().numpy(), wide, filed[row])
        assert exact == pytest.approx(score, abs=1e-5)


def test_looking_harder_fills_the_list_when_few_rows_are_allowed():
    documents = spread(200, 4)
    searcher, _ = opened(Tokens(centroids=64, probes=1, reach=1), documents)
    allowed = np.zeros(200, dtype=bool)
    allowed[[7, 90, 191]] = True
    [found] = searcher.search([Query(spread(1, 8).tokens.tokens)], 3, allowed)
    assert sorted(found.rows.tolist()) == [7, 90, 191]


def test_what_is_imputed_rests_on_all_segments():
    documents = spread(90, 5)
    method = Tokens(centroids=30, probes=4, reach=40)
    state = method.fit(documents, seed=3)
    whole = method.open(segment(method, state, [documents]), state)
    cuts = [0, 20, 90]
    halves = [
        Documents(
            documents.tokens.take(slice(a, b)),
            documents.reduced.take(slice(a, b)),
            [None] * (b - a),
        )
        for a, b in itertools.pairwise(cuts)
    ]
    parts = [method.open(segment(method, state, [half]), state) for half in halves]
    query = Query(spread(1, 6).tokens.tokens)
    [expected] = whole.search([query], 8)
    found = [one.together.search([query], 8)[0] for one in method.assemble(parts)]
    rows = np.concatenate([one.rows + start for one, start in zip(found, cuts, strict=False)])
    scores = np.concatenate([one.scores for one in found])
    order = np.lexsort((rows, -scores))[:8]
    assert rows[order].tolist() == expected.rows.tolist()
    np.testing.assert_allclose(scores[order], expected.scores, atol=1e-5)


def test_lists_are_as_long_as_in_all_segments_whatever_came_and_went():
    documents = spread(90, 5)
    method = Tokens(centroids=30)
    state = method.fit(documents, seed=3)
    parts = [
        method.open(segment(method, state, [Documents(some, some, [None] * len(some))]), state)
        for some in documents.tokens.blocks(90)
    ]
    assert len(parts) > 2
    before = method.assemble(parts[:-1])
    [one, other] = method.assemble([parts[0], parts[-1]], before)
    assert one.together.sizes.tolist() == (parts[0].lists.sizes + parts[-1].lists.sizes).tolist()
    assert other.together.sizes is one.together.sizes


def test_centroids_are_unit_vectors_that_settle_on_planted_directions():
    generator = torch.Generator().manual_seed(0)
    planted = torch.nn.functional.normalize(torch.randn(6, 12, generator=generator), dim=1)
    noise = 0.05 * torch.randn(600, 12, generator=generator)
    tokens = planted.repeat(100, 1) + noise
    found = spherical_centroids(tokens, 24, seed=1, passes=10)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(24))
    assert float((found @ planted.T).max(0).values.min()) > 0.99
    assert torch.equal(nearest(found, found), torch.arange(24))


def test_the_number_of_centroids_follows_the_sample_and_never_passes_it():
    assert opened(Tokens(), spread(4, 1))[1].shape[0] <= 14
    searcher, centroids = opened(Tokens(), spread(2000, 1))
    assert len(centroids) == 1024
    assert dataclasses.is_dataclass(searcher)


def test_vectors_of_another_width_are_refused():
    documents = spread(20, 1)
    searcher, _ = opened(Tokens(), documents)
    with pytest.raises(ShapeMismatch, match="3 wide"):
        searcher.search([Query(torch.ones(1, 3))], 1)
    with pytest.raises(ShapeMismatch, match="5 wide"):
        segment(Tokens(), {"centroids": torch.eye(8)}, [spread(3, 1, dim=5)])
