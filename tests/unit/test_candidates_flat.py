"""Flat stores, the mean and the FDE against the plain way."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from colreduce.candidates.base import Documents, Query, best
from colreduce.candidates.fde import Fde
from colreduce.candidates.mean import Mean
from colreduce.candidates.vectors import VECTOR_STORES, flat, kinds
from colreduce.candidates.vectors.flat import FlatSearcher, stored_rows
from colreduce.candidates.vectors.indexed import Indexed
from colreduce.errors import BadParameter, ShapeMismatch
from colreduce.fde import encode_documents, encode_queries
from colreduce.ragged import Ragged
from tests.reference.first_stages import largest, segment


def test_best_breaks_ties_by_row():
    scores = np.array([1, 3, 3, 2, 3], np.float32)
    found = best(scores, np.array([10, 40, 20, 5, 30]), 2)
    assert found.rows.tolist() == [20, 30]
    assert found.scores.tolist() == [3, 3]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("share", [None, 0.05, 0.6])
def test_flat_search_equals_sorting_all_products(dtype, share):
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((500, 33)).astype(np.float32)
    rows = stored_rows(vectors, dtype)
    read = rows["vectors"].astype(np.float32) * rows.get("scales", np.ones(500))[:, None]
    allowed = None if share is None else rng.random(500) < share
    queries = rng.standard_normal((3, 33)).astype(np.float32)
    searcher = FlatSearcher(rows["vectors"], rows.get("scales"))
    for query, found in zip(queries, searcher.search(queries, 17, allowed), strict=True):
        expected, scores = largest(read, query, 17, allowed)
        assert found.rows.tolist() == expected
        np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize("queries", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_long_scan_looks_between_blocks_whether_anybody_still_waits(
    dtype, queries, numba, monkeypatch
):
    monkeypatch.setattr(flat, "WORTH_SHARING", 32 * 100)
    monkeypatch.setattr(flat, "BLOCK_FLOATS", 32 * 100)
    if not numba:
        monkeypatch.setattr(flat, "has_numba", lambda: False)
    vectors = np.random.default_rng(5).standard_normal((1000, 32)).astype(np.float32)
    rows = stored_rows(vectors, dtype)
    searcher = FlatSearcher(rows["vectors"], rows.get("scales"))
    looks: list[None] = []
    looked = searcher.search(vectors[:queries], 7, None, lambda: looks.append(None))
    assert len(looks) >= 10
    for one, other in zip(looked, searcher.search(vectors[:queries], 7, None), strict=True):
        assert one.rows.tolist() == other.rows.tolist() != []
        assert one.scores.tolist() == other.scores.tolist()


def test_int8_rows_are_off_by_half_a_step_at_most():
    vectors = np.random.default_rng(3).standard_normal((50, 20)).astype(np.float32)
    vectors[7] = 0
    rows = stored_rows(vectors, "int8")
    error = np.abs(rows["vectors"] * rows["scales"][:, None] - vectors)
    assert (error <= rows["scales"][:, None] * 0.5001).all()
    assert rows["vectors"][7].tolist() == [0] * 20


def test_equal_vectors_have_equal_scores_in_every_place_of_every_segment():
    rng = np.random.default_rng(4)
    for width in (24, 96, 384, 1280, 10_240):
        one, query = rng.standard_normal((2, width)).astype(np.float32)
        scores = set()
        for count in (1, 2, 3, 7, 50, 257):
            for queries in (query[None], np.repeat(query[None], 3, axis=0)):
                searcher = FlatSearcher(np.repeat(one[None], count, axis=0))
                for found in searcher.search(queries, count, None):
                    assert found.rows.tolist() == list(range(count))
                    scores |= set(found.scores.tolist())
        assert len(scores) == 1


def test_the_mean_of_merged_vectors_is_weighted_by_what_they_stand_for():
    reduced = Ragged(
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([2]), weights=torch.tensor([3.0, 4.0])
    )
    documents = Documents(reduced, reduced, [None])
    state = Mean(on="reduced").fit(documents, seed=0)
    [block] = Mean(on="reduced").documents(documents, state)
    torch.testing.assert_close(block, torch.tensor([[0.6, 0.8]]))


def test_vectors_that_cancel_out_have_a_zero_mean():
    batch = Ragged(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([2]))
    documents = Documents(batch, batch, [None])
    state = Mean().fit(documents, seed=0)
    [block] = Mean().documents(documents, state)
    assert block.tolist() == [[0.0, 0.0]]


def test_queries_of_another_width_are_refused():
    batch = Ragged(torch.eye(4), torch.tensor([4]))
    documents = Documents(batch, batch, [None])
    for method in (Mean(), Fde(inner_dim=2)):
        state = method.fit(documents, seed=0)
        searcher = method.open(segment(method, state, [documents]), state)
        with pytest.raises(ShapeMismatch, match="3 wide"):
            searcher.search([Query(torch.ones(1, 3))], 1)


def test_fde_scores_are_products_of_encodings():
    generator = torch.Generator().manual_seed(5)
    batch = Ragged(torch.randn(40, 12, generator=generator), torch.tensor([10, 20, 10]))
    documents = Documents(batch, batch, [None] * 3)
    method = Fde(bits=3, repetitions=4, inner_dim=6, final_dim=100, store="flat")
    state = method.fit(documents, seed=9)
    query = torch.randn(5, 12, generator=generator)
    [found] = method.open(segment(method, state, [documents]), state).search([Query(query)], 3)
    config = method._config(12)
    products = (
        encode_queries(Ragged.pack([query]), config, state)
        @ encode_documents(batch, config, state).T
    )[0]
    assert found.rows.tolist() == products.argsort(descending=True).tolist()
    np.testing.assert_allclose(found.scores, products[found.rows].numpy(), rtol=1e-4, atol=1e-4)


def test_crowded_tokens_are_centred_and_it_is_said(caplog):
    generator = torch.Generator().manual_seed(6)
    spread = torch.nn.functional.normalize(torch.randn(200, 16, generator=generator), dim=1)
    crowded = torch.nn.functional.normalize(spread * 0.3 + torch.ones(16) / 4, dim=1)
    for tokens, centred in ((spread, False), (crowded, True)):
        batch = Ragged(tokens, torch.tensor([200]))
        documents = Documents(batch, batch, [None])
        caplog.clear()
        with caplog.at_level(logging.INFO):
            state = Fde(inner_dim=4).fit(documents, seed=0)
        assert ("centre" in state) is centred
        assert ("mean cosine" in caplog.text) is centred
        assert "centre" in Fde(inner_dim=4, center="on").fit(documents, seed=0)
        assert "centre" not in Fde(inner_dim=4, center="off").fit(documents, seed=0)


def test_an_inner_projection_wider_than_the_vectors_is_refused_when_fitted():
    batch = Ragged(torch.eye(4), torch.tensor([4]))
    with pytest.raises(BadParameter, match="inner_dim=16 is more than the vectors' width 4"):
        Fde().fit(Documents(batch, batch, [None]), seed=0)


def test_auto_keeps_small_segments_plain_and_large_ones_in_lists_or_codes():
    auto = VECTOR_STORES["auto"]
    assert isinstance(auto, Indexed)
    assert auto.least(128) == 1 << 16
    assert auto.least(10_240) == 4096
    assert auto.kind_for(384) is kinds.IVF
    assert auto.kind_for(10_240) is kinds.PQ4
