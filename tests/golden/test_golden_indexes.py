"""Indexes of every format that was ever released open and answer as on the day they were made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from colreduce import Index
from colreduce.store.layout import FORMAT
from tests.golden.rewrite import ANSWERS, QUERIES, documents

HERE = Path(__file__).parent
FOLDERS = sorted(HERE.glob("format-*"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a copy of a golden index and what it must answer."""
    copy = tmp_path / "index"
    shutil.copytree(request.param, copy)
    answers = copy / ANSWERS
    wanted = json.loads(answers.read_text(encoding="utf-8"))
    answers.unlink()
    return copy, wanted


def test_the_present_format_has_a_golden_index():
    assert f"format-{FORMAT}" in [folder.name for folder in FOLDERS]


def test_golden_files_are_small():
    sizes = [path.stat().st_size for folder in FOLDERS for path in folder.rglob("*")]
    assert sum(sizes) < 200_000


def test_it_answers_as_it_did(golden: tuple[Path, dict[str, Any]]):
    folder, wanted = golden
    with Index.open(folder) as index:
        assert len(index) == 9
        for query, expected in zip(documents(QUERIES, 20), wanted["hits"], strict=True):
            found = index.search(query, k=4)
            assert [hit.id for hit in found] == [name for name, _, _ in expected]
            assert [hit.score for hit in found] == pytest.approx([e[1] for e in expected], abs=1e-4)
            assert [dict(hit.metadata) for hit in found] == [e[2] for e in expected]


def test_it_gives_back_texts_and_vectors(golden: tuple[Path, dict[str, Any]]):
    folder, wanted = golden
    with Index.open(folder) as index:
        for stored in index.get(list(wanted["texts"]), vectors=True):
            assert stored.text == wanted["texts"][stored.id]
            assert stored.vectors is not None
            expected = torch.tensor(wanted["vectors"][stored.id])
            torch.testing.assert_close(stored.vectors.float(), expected, atol=1e-4, rtol=0)


def test_it_takes_new_documents(golden: tuple[Path, dict[str, Any]]):
    folder, _ = golden
    with Index.open(folder) as index:
        index.add(["new"], embeddings=documents(1, 40))
    with Index.open(folder) as index:
        assert len(index) == 10
        assert "new" in [hit.id for hit in index.search(documents(1, 40)[0], k=10)]
