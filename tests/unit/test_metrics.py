from __future__ import annotations

from math import log2
from pathlib import Path

import pytest

from colreduce.errors import BadData, UnknownName
from colreduce.evaluate.metrics import (
    agreement,
    ranked,
    read_runs,
    relative,
    score_run,
    write_run,
)


def test_ties_go_by_id_and_the_query_itself_is_no_hit():
    hits = [("b", 1.0), ("q", 9.0), ("a", 1.0), ("c", 2.0)]
    assert ranked("q", hits) == [("c", 2.0), ("a", 1.0), ("b", 1.0)]


def test_metrics_are_those_worked_out_by_hand_over_grades():
    qrels = {"q": {"a": 2, "b": 1, "c": 0}, "r": {"a": 1}}
    run = {"q": [("c", 3.0), ("a", 2.0), ("x", 1.0), ("b", 0.5)], "r": [("a", 1.0)]}
    ideal = 2 + 1 / log2(3)
    gain = 2 / log2(3) + 1 / log2(5)
    found = score_run(["nDCG@10", "R@2", "RR@10"], qrels, run)
    assert found["nDCG@10"] == pytest.approx((gain / ideal + 1) / 2)
    assert found["R@2"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["RR@10"] == pytest.approx((1 / 2 + 1) / 2)


def test_equal_scores_are_judged_in_the_order_given_not_in_the_tools():
    qrels = {"q": {"a": 1}}
    assert score_run(["RR@10"], qrels, {"q": [("a", 1.0), ("b", 1.0)]}) == {"RR@10": 1.0}
    assert score_run(["RR@10"], qrels, {"q": [("b", 1.0), ("a", 1.0)]}) == {"RR@10": 0.5}


def test_a_judged_query_without_hits_counts_as_zero_and_an_unjudged_one_not_at_all():
    qrels = {"q": {"a": 1}, "r": {"a": 1}}
    run = {"q": [("a", 1.0)], "other": [("a", 1.0)]}
    assert score_run(["RR@10"], qrels, run) == {"RR@10": 0.5}


def test_a_metric_nobody_knows_is_answered_with_examples():
    with pytest.raises(UnknownName, match=r"no metric 'nGCD@10'.*nDCG@10"):
        score_run(["nGCD@10"], {}, {})


def test_agreement_is_the_mean_overlap_of_the_tops():
    exact = {"q": [("a", 3.0), ("b", 2.0), ("c", 1.0)], "r": [("a", 1.0)]}
    run = {"q": [("c", 3.0), ("a", 2.0)], "r": [("a", 1.0)]}
    assert agreement(run, exact, k=2) == pytest.approx((1 / 2 + 1) / 2)
    assert agreement(exact, exact) == 1.0


def test_shares_of_exact_are_one_where_both_are_zero():
    assert relative({"a": 0.4, "b": 0.0}, {"a": 0.5, "b": 0.0}) == {"a": 0.8, "b": 1.0}


def test_a_run_file_keeps_order_through_ties_and_ids_with_spaces(tmp_path: Path):
    run = {"q 1": [("a b", 0.1 + 0.2), ("b", 0.3), ("c", 0.3), ("d", -1.5)], "r": [("a", 1e-9)]}
    path = tmp_path / "runs" / "out.trec"
    write_run(path, [("one", run), ("two", {"r": [("z", 2.0)]})])
    assert path.read_text().splitlines()[0].split("\t")[:4] == ["q 1", "Q0", "a b", "1"]
    found = read_runs(path)
    assert list(found) == ["one", "two"]
    assert {q: [name for name, _ in hits] for q, hits in found["one"].items()} == {
        "q 1": ["a b", "b", "c", "d"],
        "r": ["a"],
    }
    scores = [score for _, score in found["one"]["q 1"]]
    assert scores == sorted(set(scores), reverse=True)
    assert scores == pytest.approx([0.3, 0.3, 0.3, -1.5], abs=1e-6)


def test_a_damaged_run_file_is_named_by_line(tmp_path: Path):
    path = tmp_path / "x.trec"
    path.write_text("q Q0 a 1 2.5 tag\nq Q0 a 1\n")
    with pytest.raises(BadData, match=r"x.trec line 2: wanted 6 columns"):
        read_runs(path)
    path.write_text("q Q0 a 1 high tag\n")
    with pytest.raises(BadData, match="line 1: the score is not a number"):
        read_runs(path)
