"""The page about large corpora says what the result says; its arithmetic is what it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.scale import enough, partial, tail
from benchmarks.scale_page import BEGIN, END, tables

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks/results/scale.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    shown = page.split(BEGIN)[1].split(END)[0]
    assert shown.strip() == tables(result).strip(), "run `python -m benchmarks.scale --page`"


def test_the_slowest_of_many_is_slower_and_a_second_ask_helps():
    alone, many = tail(1, 4.0, False), tail(100, 4.0, False)
    assert alone["p50"] == pytest.approx(1, rel=0.05)
    assert alone["p99"] == pytest.approx(4, rel=0.1)
    assert many["p50"] > 3
    assert tail(100, 4.0, True)["p99"] < 0.7 * many["p99"]


def test_few_candidates_of_each_are_enough_and_replicas_multiply():
    assert [enough(shards) for shards in (1, 5, 50, 500)] == [500, 153, 29, 9]
    assert partial(500)["1"] == pytest.approx(0.394, abs=0.001)
    assert partial(500)["2"] == pytest.approx(0.0005, abs=1e-5)
