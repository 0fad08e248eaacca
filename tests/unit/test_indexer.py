from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from colreduce_indexer.job import build
from colreduce_indexer.sources import open_source

from colreduce.errors import AlreadyExists, BadData, BadInput
from colreduce.index import Index
from colreduce.recipe import Recipe
from tests.hashing_encoder import HashingEncoder

RECIPE = Recipe.parse("window(size=2) | int8")


def quiet(what: str, done: int, total: int) -> None:
    assert done <= total or total == 0


def documents(path: Path, count: int, tail: str = "") -> Path:
    entries = [
        {"_id": f"d{i}", "title": f"title{i}", "text": f"text {i} end", "metadata": {"number": i}}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
    return path


def run(path: Path, out: Path, encoder: HashingEncoder | None = None, **options: object):
    encoder = encoder or HashingEncoder()
    source = open_source(path, encoder, vectors=False, limit=None, batch_size=4)
    settings = {"seed": 0, "store_texts": True, "progress": quiet, **options}
    return build(source, out, RECIPE, encoder=encoder, **settings)  # type: ignore[arg-type]


def test_an_index_built_in_one_go_answers_like_one_that_was_filled_by_hand(tmp_path: Path):
    encoder = HashingEncoder()
    built = run(documents(tmp_path / "docs.jsonl", 150), tmp_path / "idx", encoder)
    assert built.description["documents"] == 150
    assert built.description["segments"] == 1
    with Index.create(tmp_path / "other", recipe=RECIPE, encoder=encoder) as other:
        for start in range(0, 150, 50):
            numbers = range(start, start + 50)
            texts = [f"title{i} text {i} end" for i in numbers]
            other.add([f"d{i}" for i in numbers], texts)
        expected = other.search("title7 text 7", 5)
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        hits = index.search("title7 text 7", 5)
        assert [hit.id for hit in hits] == [hit.id for hit in expected]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected])
        assert hits[0].id == "d7"
        assert hits[0].metadata == {"number": 7}
        assert index.get(["d7"])[0].text == "title7 text 7 end"


def test_seconds_are_told_by_stage_and_texts_can_be_left_out(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 20)
    built = run(path, tmp_path / "idx", store_texts=False)
    building = {"check", "fit", "encode", "reduce", "first_stage", "publish"}
    assert set(built.seconds) == building | {"ledger"}
    assert built.to_dict()["format"] == 1
    assert built.description["bytes"]["texts"] == 0


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ('{"_id": "x", "te', "line 21: not a whole JSON record"),
        ('{"_id": "d3", "text": "again"}\n', "line 21: the id 'd3' was on line 4"),
        ('{"_id": "x"}\n', "line 21: the record 'x' has no 'text'"),
    ],
)
def test_a_bad_source_leaves_nothing_behind(tmp_path: Path, tail: str, message: str):
    encoder = HashingEncoder()
    path = documents(tmp_path / "docs.jsonl", 20, tail)
    with pytest.raises(BadData, match=message):
        run(path, tmp_path / "idx", encoder)
    assert not (tmp_path / "idx").exists()
    assert encoder.encoded == 0


def test_a_mistake_that_shows_up_late_leaves_nothing_behind(tmp_path: Path):
    vectors = np.ones((600, 3), dtype=np.float32)
    vectors[571] = 0
    ids = np.array([f"d{i}" for i in range(600)])
    path = tmp_path / "v.npz"
    np.savez(path, doc_ids=ids, doclens=np.ones(600, dtype=np.int32), doc_vectors=vectors)
    source = open_source(path, None, vectors=True, limit=None, batch_size=4)
    for out in (tmp_path / "idx", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        with pytest.raises(BadInput, match="vector of length 0"):
            build(source, out, RECIPE, encoder=None, seed=0, store_texts=True, progress=quiet)
    assert not (tmp_path / "idx").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_what_stands_there_already_is_not_touched(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 5)
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx" / "precious").write_text("mine")
    with pytest.raises(AlreadyExists, match="idx is there already"):
        run(path, tmp_path / "idx")
    assert (tmp_path / "idx" / "precious").read_text() == "mine"


def test_an_empty_document_is_indexed_as_what_the_encoder_gives(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_text('{"_id": "full", "text": "some words"}\n{"_id": "empty", "text": ""}\n')
    encoder = HashingEncoder()
    built = run(path, tmp_path / "idx", encoder)
    assert built.description["documents"] == 2
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        assert {hit.id for hit in index.search("words", 5)} == {"full", "empty"}
