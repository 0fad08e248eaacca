"""Searches that are scored again: what goes wrong there touches nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from colreduce_service.call import Searched
from colreduce_service.insight.metrics import Metrics
from colreduce_service.insight.shadow import Shadow

from colreduce import Index
from tests.service.running import fill, unit_vectors


def test_a_search_that_cannot_be_scored_again_is_counted_and_the_next_one_is_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "index", "int8 | mean | maxsim", documents=9)
    metrics = Metrics({}, list, dict)
    shadow = Shadow(1, metrics)
    with Index.open(tmp_path / "index") as index:
        [asked] = index.ask([unit_vectors(np.random.default_rng(0), 4)], 5)
        good = Searched(index.view, asked, index.view.search(asked))
        narrow = replace(asked.query, vectors=asked.query.vectors[:, :3])
        bad = Searched(index.view, replace(asked, query=narrow), good.hits)
        call: Any = SimpleNamespace(searched=[bad, good], collection="papers")
        shadow(call, "OK")
        shadow.close()
    told = {
        sample.name: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    assert told["colreduce_shadow_dropped_total"] == 1
    assert told["colreduce_shadow_agreement_count"] == 1
    assert "could not be scored again" in caplog.text
