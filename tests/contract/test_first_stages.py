"""What holds for every first stage, with every store, on documents whose neighbours are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from colreduce.candidates import FIRST_STAGES
from colreduce.candidates.base import Documents, FirstStage, Query
from colreduce.candidates.single import SingleVector
from colreduce.candidates.vectors import VECTOR_STORES
from colreduce.ragged import Ragged
from tests.reference.first_stages import opened, segment
from tests.reference.tiny_models import save_dense, save_sparse

DIM = 24
SMALL = {
    "fde": {"repetitions": 8, "bits": 3, "inner_dim": 8},
    "lemur": {"width": 64, "epochs": 3},
}


VARIANTS = {"tokens": [{}, {"score": "interaction"}]}
MODELS = {"dense": save_dense, "sparse": save_sparse}


def cases() -> list[tuple[str, dict[str, str]]]:
    """Return every first stage with every store it can have."""
    found: list[tuple[str, dict[str, str]]] = []
    for name, kind in FIRST_STAGES.items():
        variants = [{"store": store} for store in VECTOR_STORES]
        if not issubclass(kind, SingleVector):
            variants = VARIANTS.get(name, [{}])
        found += [(name, variant) for variant in variants]
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Save the text encoders that some first stages bring along."""
    folder = tmp_path_factory.mktemp("models")
    return {name: save(folder / name) for name, save in MODELS.items()}


@pytest.fixture(params=cases(), ids=lambda case: "-".join([case[0], *case[1].values()]))
def method(request) -> FirstStage:
    """Return a first stage small enough for a test."""
    name, parameters = request.param
    if name == "bm25":
        pytest.importorskip("bm25s", reason="bm25 needs the extra bm25")
    given = {**SMALL.get(name, {}), **parameters}
    if name in MODELS:
        given["model"] = request.getfixturevalue("models")[name]
    return FIRST_STAGES[name].build(given)


def planted(count: int, seed: int = 0) -> Documents:
    """Return documents that each keep close to a topic of their own."""
    rng = np.random.default_rng(seed)
    tokens, lengths = [], []
    for _ in range(count):
        length = int(rng.integers(2, 9))
        topic = rng.standard_normal(DIM)
        tokens.append(topic + 0.3 * rng.standard_normal((length, DIM)))
        lengths.append(length)
    joined = torch.from_numpy(np.concatenate(tokens)).float()
    batch = Ragged(torch.nn.functional.normalize(joined, dim=1), torch.tensor(lengths))
    weighted = Ragged(batch.tokens, batch.lengths, weights=torch.ones(len(joined)))
    texts = [f"w{number} w{number} shared" for number in range(count)]
    return Documents(batch, weighted, texts)


def some(documents: Documents, rows: slice) -> Documents:
    return Documents(
        documents.tokens.take(rows), documents.reduced.take(rows), documents.texts[rows]
    )


def query_for(documents: Documents, row: int) -> Query:
    return Query(documents.tokens.unpack()[row], documents.texts[row])


def searcher(method: FirstStage, documents: Documents, cuts: tuple[int, ...] = ()):
    state = method.fit(documents, seed=1)
    bounds = [0, *cuts, len(documents.tokens)]
    batches = [some(documents, slice(a, b)) for a, b in pairwise(bounds)]
    parts = segment(method, state, batches)
    [side] = method.assemble([method.open(parts, state)])
    return side.together, state, parts


def test_a_document_is_found_by_its_own_vectors(method):
    documents = planted(60)
    asked, _, _ = searcher(method, documents)
    found = asked.search([query_for(documents, row) for row in range(0, 60, 7)], 60)
    for row, one in zip(range(0, 60, 7), found, strict=True):
        assert row in one.rows[: 60 if method.name == "exhaustive" else 5]


def test_rows_come_once_best_first_and_equal_scores_by_row(method):
    documents = planted(40)
    doubled = Documents(
        Ragged.concat([documents.tokens, documents.tokens]),
        Ragged.concat([documents.reduced, documents.reduced]),
        [*documents.texts, *documents.texts],
    )
    asked, _, _ = searcher(method, doubled)
    [found] = asked.search([query_for(documents, 3)], 80)
    assert found.rows.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert len(set(found.rows.tolist())) == len(found.rows) == len(found.scores)
    order = np.lexsort((found.rows, -found.scores))
    assert order.tolist() == list(range(len(order)))
    if method.name != "exhaustive":
        assert found.rows[:2].tolist() == [3, 43]


def test_no_more_rows_come_than_were_asked_for(method):
    documents = planted(30)
    asked, _, _ = searcher(method, documents)
    [found] = asked.search([query_for(documents, 3)], 7)
    assert len(found.rows) == (30 if method.name == "exhaustive" else 7)


def test_asking_for_more_rows_than_there_are_returns_what_there_is(method):
    documents = planted(9)
    asked, _, _ = searcher(method, documents)
    [found] = asked.search([query_for(documents, 3)], 1000)
    assert len(found.rows) <= 9
    assert set(found.rows.tolist()) <= set(range(9))
    assert 3 in found.rows


def test_rows_that_are_not_allowed_never_come(method):
    documents = planted(50)
    asked, _, _ = searcher(method, documents)
    for share in (0.02, 0.3, 0.95):
        allowed = np.random.default_rng(1).random(50) < share
        allowed[8], allowed[15] = False, True
        [found] = asked.search([query_for(documents, 8)], 50, allowed)
        assert allowed[found.rows].all()
        [found] = asked.search([query_for(documents, 15)], 10, allowed)
        assert 15 in found.rows
    [found] = asked.search([query_for(documents, 8)], 10, np.zeros(50, dtype=bool))
    assert len(found.rows) == 0


def test_one_document_can_be_searched(method):
    documents = planted(1)
    asked, _, _ = searcher(method, documents)
    [found] = asked.search([query_for(documents, 0)], 10)
    assert found.rows.tolist() == [0]


def test_how_documents_come_in_batches_changes_nothing(method):
    documents = planted(40)
    queries = [query_for(documents, row) for row in (0, 11, 39)]
    whole = searcher(method, documents)[0].search(queries, 10)
    parts = searcher(method, documents, (1, 5, 6, 30))[0].search(queries, 10)
    for one, other in zip(whole, parts, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_a_seed_gives_the_same_bytes(method):
    documents = planted(30)
    first, second = searcher(method, documents), searcher(method, documents)
    assert first[1].keys() == second[1].keys()
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])
    for one, other in ((first[2].arrays, second[2].arrays), (first[2].files, second[2].files)):
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_documents_are_left_as_they_were(method):
    documents = planted(20)
    before = documents.tokens.tokens.clone()
    asked, _, _ = searcher(method, documents)
    query = query_for(documents, 2)
    vectors = query.vectors.clone()
    asked.search([query], 5)
    assert torch.equal(before, documents.tokens.tokens)
    assert torch.equal(vectors, query.vectors)


def test_segments_merged_without_their_dead_rows_answer_like_one_built_anew(method):
    documents = planted(40)
    state = method.fit(documents, seed=1)
    halves = [some(documents, slice(0, 25)), some(documents, slice(25, 40))]
    parts = [segment(method, state, [half]) for half in halves]
    kept = [np.delete(np.arange(25), [3, 24]), np.delete(np.arange(15), [0])]
    merged = opened(dict(method.merge(list(zip(parts, kept, strict=True)), state)), 37)
    rows = torch.from_numpy(np.concatenate([kept[0], 25 + kept[1]]))
    anew = Documents(
        documents.tokens.take(rows),
        documents.reduced.take(rows),
        [documents.texts[row] for row in rows.tolist()],
    )
    queries = [query_for(documents, row) for row in (0, 30, 39)]
    answers = [
        method.assemble([method.open(part, state)])[0].together.search(queries, 5)
        for part in (merged, segment(method, state, [anew]))
    ]
    for one, other in zip(*answers, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_no_queries_get_no_answers(method):
    asked, _, _ = searcher(method, planted(10))
    assert asked.search([], 10) == []
