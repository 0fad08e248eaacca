"""Learned single vectors: what the solve promises, and that training helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce.candidates.base import Documents, Query
from colreduce.candidates.lemur import Lemur
from colreduce.errors import ShapeMismatch
from colreduce.maxsim import maxsim
from colreduce.ragged import Ragged


def topics(count: int, seed: int, dim: int = 16) -> Documents:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((30, dim))
    items = []
    for _ in range(count):
        chosen = shared[rng.integers(0, 30, 4)].repeat(3, axis=0)
        items.append(chosen + 0.3 * rng.standard_normal(chosen.shape))
    tokens = [torch.nn.functional.normalize(torch.from_numpy(i).float(), dim=1) for i in items]
    batch = Ragged.pack(tokens)
    return Documents(batch, batch, [None] * count)


def correlation(method: Lemur, documents: Documents) -> float:
    state = method.fit(documents, seed=0)
    vectors = torch.cat(list(method.documents(documents, state)))
    found = []
    for row in range(0, len(documents.tokens), 7):
        query = documents.tokens.unpack()[row][::2] + 0.01
        exact = maxsim(query, documents.tokens.tokens, documents.tokens.lengths)
        got = method.queries([Query(query)], state)[0] @ vectors.T
        found.append(np.corrcoef(exact.numpy(), got.numpy())[0, 1])
    return float(np.mean(found))


def test_products_follow_maxsim_and_training_follows_it_closer():
    documents = topics(70, 1)
    random = correlation(Lemur(width=64, epochs=0, solve_tokens=512), documents)
    trained = correlation(Lemur(width=64, epochs=40, solve_tokens=512), documents)
    assert random > 0.8
    assert trained > random


def test_a_document_of_many_equal_tokens_is_the_document_of_one():
    documents = topics(20, 2)
    method = Lemur(width=32, epochs=0)
    state = method.fit(documents, seed=0)
    one = documents.tokens.tokens[:1]
    pair = Ragged.pack([one, one.repeat(5, 1)])
    [vectors] = method.documents(Documents(pair, pair, [None, None]), state)
    torch.testing.assert_close(vectors[0], vectors[1])


def test_a_query_is_the_sum_of_its_tokens():
    documents = topics(20, 3)
    method = Lemur(width=32, epochs=2)
    state = method.fit(documents, seed=0)
    tokens = documents.tokens.tokens[:5]
    whole = method.queries([Query(tokens)], state)
    parts = method.queries([Query(token[None]) for token in tokens], state)
    torch.testing.assert_close(whole[0], parts.sum(0), atol=1e-4, rtol=1e-4)
    assert whole.shape == (1, 32)


def test_vectors_of_another_width_are_refused():
    documents = topics(20, 4)
    method = Lemur(width=16, epochs=0)
    state = method.fit(documents, seed=0)
    with pytest.raises(ShapeMismatch, match="3 wide"):
        method.queries([Query(torch.ones(2, 3))], state)
    narrow = topics(2, 4, dim=5)
    with pytest.raises(ShapeMismatch, match="5 wide"):
        list(method.documents(narrow, state))
