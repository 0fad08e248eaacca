"""What every reranker keeps to, and pruning and early exit against their literal reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colreduce.rerank import RERANKERS
from colreduce.rerank.base import Reranker
from colreduce.rerank.maxsim import AT_A_TIME, Maxsim
from tests.reference.rerankers import rerank

FURTHER = {
    "maxsim": [{"prune": 0.05}, {"patience": 3}, {"prune": 0.5, "patience": 2}, {"whole": 20}]
}


class Counting:
    """Exact scores that remember which were asked for."""

    def __init__(self, exact) -> None:
        self.exact = np.asarray(exact, dtype=np.float32)
        self.asked: list[int] = []

    def __call__(self, positions):
        assert positions.dtype == np.int64
        self.asked += positions.tolist()
        return self.exact[positions]


def cases() -> list[Reranker]:
    return [
        row.build(parameters)
        for name, row in RERANKERS.items()
        for parameters in [{}, *FURTHER.get(name, [])]
    ]


CASES = pytest.mark.parametrize("reranker", cases(), ids=str)


def lists(seed: int, count: int, low: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    first = np.sort(draw.uniform(low, 1, count).astype(np.float32))[::-1].copy()
    return first, (first + draw.normal(0, 0.3, count)).astype(np.float32)


@CASES
@pytest.mark.parametrize("count", [0, 1, 4, 10, 11, 200])
def test_the_best_are_returned_once_each_best_first(reranker, count):
    first, exact = lists(1, count)
    positions, scores = reranker.rank(first, Counting(exact), 10)
    assert positions.dtype == np.int64
    assert scores.dtype == np.float32
    assert len(positions) == len(scores) == min(10, count)
    assert len(set(positions.tolist())) == len(positions)
    assert (np.diff(scores) <= 0).all()


@CASES
def test_no_candidate_is_scored_twice_and_the_lists_stay_as_they_were(reranker):
    first, exact = lists(2, 100)
    before, score = first.copy(), Counting(exact)
    reranker.rank(first, score, 10)
    assert len(score.asked) == len(set(score.asked))
    assert np.array_equal(first, before)
    assert np.array_equal(score.exact, exact)


@CASES
def test_fewer_candidates_than_asked_for_are_all_returned(reranker):
    first, exact = lists(3, 7, low=-1)
    positions, _ = reranker.rank(first, Counting(exact), 10)
    assert sorted(positions.tolist()) == list(range(7))


def test_maxsim_by_itself_scores_all_and_breaks_ties_by_the_candidates_order():
    score = Counting([1, 5, 5, 0, 5])
    positions, scores = Maxsim().rank(np.array([5, 4, 3, 2, 1], np.float32), score, 3)
    assert positions.tolist() == [1, 2, 4]
    assert scores.tolist() == [5, 5, 5]
    assert sorted(score.asked) == [0, 1, 2, 3, 4]


def test_none_scores_nothing():
    score = Counting([1, 2, 3])
    positions, scores = RERANKERS["none"].build({}).rank(np.array([9, 8, 7], np.float32), score, 2)
    assert positions.tolist() == [0, 1]
    assert scores.tolist() == [9, 8]
    assert score.asked == []


def test_pruning_keeps_what_is_within_a_share_of_the_kth_first_score():
    score = Counting([1, 2, 3, 4, 5])
    first = np.array([12, 10, 9.5, 9, 8.9], np.float32)
    positions, _ = Maxsim(prune=0.1).rank(first, score, 2)
    assert score.asked == [0, 1, 2, 3]  # 10 less a tenth is 9
    assert positions.tolist() == [3, 2]


def test_pruning_looks_below_a_negative_score_not_above_it():
    score = Counting([1, 2, 3, 4, 5])
    Maxsim(prune=0.1).rank(np.array([3, -10, -10.5, -11, -11.1], np.float32), score, 2)
    assert score.asked == [0, 1, 2, 3]


def test_pruning_by_nothing_keeps_ties_with_the_kth():
    score = Counting([1, 2, 3, 4])
    Maxsim(prune=0.0).rank(np.array([2, 1, 1, 0.999], np.float32), score, 2)
    assert score.asked == [0, 1, 2]


def test_early_exit_stops_after_failures_in_a_row_and_starts_anew_after_a_success():
    first = np.arange(100, 0, -1).astype(np.float32)
    exact = np.zeros(100, np.float32)
    exact[[0, 1, 4, 99]] = [2, 1, 3, 9]  # 2, 3 fail; 4 succeeds; 5, 6, 7 fail; 99 is never seen
    score = Counting(exact)
    positions, scores = Maxsim(patience=3).rank(first, score, 2)
    assert positions.tolist() == [4, 0]
    assert scores.tolist() == [3, 2]
    assert len(score.asked) <= 8 + AT_A_TIME


def test_a_score_equal_to_the_kth_counts_as_a_failure():
    exact = np.array([1, 1, 1, 1, 9], np.float32)
    first = np.arange(5, 0, -1).astype(np.float32)
    assert Maxsim(patience=2).rank(first, Counting(exact), 2)[0].tolist() == [0, 1]


def test_early_exit_scores_all_when_the_first_stage_gave_no_order():
    exact = np.arange(50).astype(np.float32)
    positions, _ = Maxsim(patience=1, prune=0.1).rank(np.zeros(50, np.float32), Counting(exact), 3)
    assert positions.tolist() == [49, 48, 47]


@settings(max_examples=400, deadline=None)
@given(
    scores=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=60),
    k=st.integers(1, 12),
    prune=st.none() | st.sampled_from([0.0, 0.015, 0.05, 0.5, 2.0]),
    patience=st.none() | st.integers(1, 20),
)
def test_pruning_and_early_exit_answer_as_the_reference_does(scores, k, prune, patience):
    first = np.sort(np.array([one for one, _ in scores], np.float32))[::-1].copy()
    exact = np.array([one for _, one in scores], np.float32)
    wanted, needed = rerank(first, exact, k, prune, patience)
    score = Counting(exact)
    positions, found = Maxsim(prune=prune, patience=patience).rank(first, score, k)
    assert positions.tolist() == wanted
    assert found.tolist() == exact[wanted].tolist()
    assert len(score.asked) <= needed + AT_A_TIME
