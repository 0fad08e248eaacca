"""Rough scores first: the best documents and their scores are those of scoring all exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce.evaluate.rough import best_scores, roughly
from colreduce.evaluate.scoring import TopRows, dense, score_all
from colreduce.ragged import Ragged

pytest.importorskip("numba", reason="the maximum of bfloat16 is compiled by numba")

DIM, DEPTH = 48, 5


def drawn(seed: int, items: int, longest: int, shift: float = 0.0) -> Ragged:
    """Return unit vectors, all of them on one side of the origin when shifted."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (items,), generator=draw)
    tokens = torch.randn(int(lengths.sum()), DIM, generator=draw) + shift
    return Ragged(torch.nn.functional.normalize(tokens, dim=1), lengths)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 37.0])
@pytest.mark.parametrize("shift", [0.0, 0.5, -0.5])
def test_a_rough_score_is_never_further_off_than_it_says(shift, scale):
    queries, documents = drawn(1, 9, 7), drawn(2, 60, 11, shift)
    tokens, lengths = scale * documents.tokens, documents.lengths.numpy()
    rough, off = roughly(queries, tokens, lengths)
    items = [scale * item.double() for item in documents.unpack()]
    exact = np.array(
        [
            [float((one.double() @ item.T).amax(1).sum()) for item in items]
            for one in queries.unpack()
        ]
    )
    assert (np.abs(rough - exact) <= off).all()
    assert off.max() < 0.1 * scale * 7  # a bound that says nothing would hold, too


@pytest.mark.parametrize("cut", [60, 7])
def test_the_best_are_found_whatever_the_blocks(cut):
    queries, documents = drawn(3, 9, 7), drawn(4, 60, 11, 0.3)
    whole = score_all(queries, documents.lengths.numpy(), dense(documents.tokens))
    wanted, found = TopRows(9, DEPTH), TopRows(9, DEPTH)
    wanted.add(0, whole)
    scored = 0
    for start in range(0, 60, cut):
        some = documents.take(slice(start, start + cut))
        scores = best_scores(
            queries, some.tokens, some.lengths.numpy(), found.least, DEPTH, roughly_first=True
        )
        scored += int(np.isfinite(scores).sum())
        found.add(start, scores)
    for got, want in zip(found.finish(), wanted.finish(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
    assert scored < whole.size / 2  # most were not scored exactly


def test_hidden_documents_take_nobodys_place():
    queries, documents = drawn(5, 4, 7), drawn(6, 30, 11, 0.3)
    whole = score_all(queries, documents.lengths.numpy(), dense(documents.tokens))
    best = whole.argmax(axis=1)

    def hide(scores):
        scores[np.arange(4), best] = -np.inf

    nothing = np.full(4, -np.inf, dtype=np.float32)
    lengths = documents.lengths.numpy()
    scores = best_scores(queries, documents.tokens, lengths, nothing, 3, hide, roughly_first=True)
    hide(whole)
    rows = np.argsort(-scores, axis=1)[:, :3]
    np.testing.assert_array_equal(rows, np.argsort(-whole, axis=1)[:, :3])
    assert not np.isfinite(scores[np.arange(4), best]).any()


def test_few_documents_are_all_scored():
    queries, documents = drawn(7, 3, 7), drawn(8, 4, 11)
    nothing = np.full(3, -np.inf, dtype=np.float32)
    lengths = documents.lengths.numpy()
    scores = best_scores(queries, documents.tokens, lengths, nothing, 10, roughly_first=True)
    np.testing.assert_allclose(
        scores, score_all(queries, lengths, dense(documents.tokens)), rtol=1e-5
    )
