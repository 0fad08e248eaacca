"""The command ``colreduce plan`` over vectors that are known already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from colreduce import Recipe
from colreduce.cli import main
from tests.unit.test_plan import DOCUMENTS, QUERIES, vectors


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Write a file of vectors with judgements."""
    documents, queries = vectors()
    file = tmp_path_factory.mktemp("plan") / "themes.npz"
    names = [f"q{number}" for number in range(QUERIES)]
    np.savez(
        file,
        doc_ids=np.array([f"d{number}" for number in range(DOCUMENTS)]),
        doclens=documents.lengths.numpy(),
        doc_vectors=documents.tokens.numpy(),
        query_ids=np.array(names),
        query_vectors=np.stack([one.numpy() for one in queries.unpack()]),
        qrels_query_ids=np.array(names),
        qrels_doc_ids=np.array([f"d{number}" for number in range(QUERIES)]),
        qrels_scores=np.ones(QUERIES, dtype=np.int64),
    )
    return file


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["plan", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_plan_is_shown_drawn_and_written(source: Path, tmp_path: Path):
    out = tmp_path / "recipe.toml"
    code, shown, told = run(source, "--keep", 0.8, "--out", out, "--no-cache")
    assert code == 0, told
    assert "20 of them held back" in shown
    assert "X chosen" in shown
    assert "It is expected to keep" in " ".join(shown.split())
    assert str(Recipe.parse(str(out))) in " ".join(shown.split())
    assert f"the recipe is in {out}" in told


def test_json_is_one_document_and_without_judgements_agreement_counts(source: Path):
    code, shown, told = run(
        source, "--max-bytes-per-doc", 900, "--split", "none", "--json", "--no-cache"
    )
    assert code == 0, told
    found = json.loads(shown)
    assert found["metric"] == "agreement@10"
    assert found["queries"]["kind"] == "spans"
    assert found["confirmed"]
    assert found["bytes_per_doc"]["total"] <= 900
    assert found["kept"]["low"] <= found["kept"]["value"] <= found["kept"]["high"]


def test_a_plan_without_a_bound_is_wrong_usage(source: Path):
    code, _, told = run(source)
    assert code == 2
    assert "--keep" in told


def test_a_folder_without_an_encoder_is_wrong_usage(tmp_path: Path):
    code, _, told = run(tmp_path, "--keep", 0.9)
    assert code == 2
    assert "--encoder" in told
