"""Parquet files and data sets of the hub as sources; the hub is stood in for by a local folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colreduce_indexer.job import build
from colreduce_indexer.plan import Settings
from colreduce_indexer.sources import Bad, open_source
from colreduce_indexer.sources.tables import Hub, Parquet, hub_source

from colreduce.errors import BadData
from colreduce.export import export_index
from colreduce.index import Index
from colreduce.recipe import Recipe
from tests.hashing_encoder import HashingEncoder

RECIPE = Recipe.parse("window(size=2) | int8")


def table(path: Path, count: int, **columns: Any) -> Path:
    rows = {
        "_id": [f"d{i}" for i in range(count)],
        "title": [None if i % 2 else f"title{i}" for i in range(count)],
        "text": [f"text {i}" for i in range(count)],
        "metadata": [json.dumps({"n": i}) for i in range(count)],
        "unused": list(range(count)),
        **columns,
    }
    pq.write_table(pa.table(rows), path, row_group_size=100)
    return path


def read(source: Any, start: int = 0) -> tuple[list[str], list[Bad]]:
    batches = list(source.read(start))
    names = [one for batch in batches for one in batch.documents.ids]
    return names, [bad for batch in batches for bad in batch.bad]


def test_rows_are_read_from_any_of_them_on(tmp_path: Path):
    table(tmp_path / "a.parquet", 350)
    table(tmp_path / "b.parquet", 20, _id=[f"e{i}" for i in range(20)])
    source = open_source(tmp_path, vectors=False)
    assert isinstance(source, Parquet)
    every, bad = read(source)
    assert every == [f"d{i}" for i in range(350)] + [f"e{i}" for i in range(20)]
    assert bad == []
    for start in (1, 99, 100, 257, 350, 369):
        assert read(source, start)[0] == every[start:]
    [first, *_] = source.read(256)
    assert first.documents.numbers[:2] == [256, 257]
    assert first.documents.places[0] == f"{tmp_path / 'a.parquet'} row 257"
    assert first.documents.texts is not None
    assert first.documents.texts[:2] == ["title256 text 256", "text 257"]
    assert first.documents.metadata is not None
    assert first.documents.metadata[0] == {"n": 256}


def test_rows_that_cannot_be_used_are_told_one_by_one(tmp_path: Path):
    path = table(
        tmp_path / "a.parquet",
        4,
        _id=["a", None, "c", "d"],
        text=["x", "x", None, "x"],
        metadata=["{}", "{}", "{}", "[1"],
    )
    names, bad = read(open_source(path, vectors=False))
    assert names == ["a"]
    assert [(one.number, one.place.rpartition(" ")[2]) for one in bad] == [
        (1, "2"),
        (2, "3"),
        (3, "4"),
    ]
    assert bad[1].reason == "the record 'c' has no 'text' that is a string"
    assert bad[2].reason.startswith("its metadata is no object")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadData, match="cannot be read"):
        read(open_source(path, vectors=False))


def test_what_was_exported_can_be_indexed_again(tmp_path: Path):
    encoder = HashingEncoder()
    with Index.create(tmp_path / "idx", recipe="exact", encoder=encoder) as index:
        index.add(["a", "b"], ["one two three", "four"], metadata=[{"n": 1}, {}])
        export_index(index, "parquet", tmp_path / "out.parquet")
    source = open_source(tmp_path / "out.parquet", vectors=True)
    settings = Settings(recipe=Recipe.parse("exact"))
    built = build(source, tmp_path / "again", settings, encoder=encoder)
    assert built.description["documents"] == 2
    with Index.open(tmp_path / "again", encoder=encoder) as index:
        hit = index.search("two", 1)[0]
        assert (hit.id, hit.metadata) == ("a", {"n": 1})
        assert index.get(["a"])[0].text == "one two three"


def test_vectors_of_wrong_shapes_are_left_out(tmp_path: Path):
    good = np.ones((2, 3), np.float32).tolist()
    path = tmp_path / "v.parquet"
    vectors = pa.array([good, None, [], good, [[1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    pq.write_table(pa.table({"id": list("abcdef"), "vectors": vectors}), path)
    with pytest.raises(BadData, match="its vectors are 2 and 3 wide"):
        read(open_source(path, vectors=True))
    pq.write_table(pq.read_table(path).take([0, 1, 2, 3, 5]), path)
    names, bad = read(open_source(path, vectors=True))
    assert names == ["a", "d"]
    assert sorted(one.number for one in bad) == [1, 2, 4]


def test_a_data_set_of_the_hub_is_read_as_a_stream(tmp_path: Path):
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    table(tmp_path / "set" / "train.parquet", 300)
    source = Hub("me/set", False, str(tmp_path / "set"))
    every, bad = read(source)
    assert (len(every), bad) == (300, [])
    assert read(source, 290)[0] == every[290:]
    settings = Settings(recipe=RECIPE, limit=270)
    built = build(source, tmp_path / "idx", settings, encoder=HashingEncoder())
    assert built.description["documents"] == 270
    with pytest.raises(BadData, match="name one behind a colon"):
        read(Hub("me/set", False, str(tmp_path / "set"), split="nowhere"))


def test_a_name_with_one_slash_may_be_a_data_set(tmp_path: Path):
    source = hub_source("BeIR/scifact:corpus:corpus", vectors=False)
    assert source is not None
    assert (source.repository, source.subset, source.split) == ("BeIR/scifact", "corpus", "corpus")
    assert hub_source("data/docs.jsonl", vectors=False) is None
    assert hub_source("a/b/c", vectors=False) is None
    pytest.importorskip("datasets")
    with pytest.raises(BadData, match="has no such data set or cannot be reached"):
        read(open_source("nobody/nothing-of-that-name", vectors=False))
