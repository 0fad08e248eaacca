"""What left an index in another system's format is what the index held."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colreduce import Index
from colreduce.cli.export import FORMATS
from colreduce.embed.precomputed import vector_batches
from colreduce.errors import AlreadyExists, BadData, BadInput, UnknownName
from colreduce.export import EXPORTERS, export_index, query_vectors, source
from colreduce.export.qdrant import most_vectors, point_id, upload
from tests.unit.test_cli_live import ask, run
from tests.unit.test_index import DIM, documents, names

COUNT = 30
GONE = "d003"
RECIPE = "window(factor=2) | int8 | mean | fde(repetitions=2, bits=2) | rrf"


def filled(path: Path, recipe: str = RECIPE, **more: Any) -> Index:
    index = Index.create(path, recipe=recipe, dim=DIM, **more)
    notes = [{"n": n, "tags": ["even" if n % 2 == 0 else "odd"]} for n in range(COUNT)]
    texts = [f"text number {n}" for n in range(COUNT)]
    index.add(names(COUNT), texts, embeddings=documents(COUNT), metadata=notes)
    index.add(["d005"], ["replaced"], embeddings=documents(1, seed=5), metadata=[{"n": 500}])
    index.delete([GONE])
    return index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with filled(tmp_path_factory.mktemp("index") / "idx") as made:
        yield made


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Cut the index into several blocks, as a large one would be."""
    monkeypatch.setattr(source, "BLOCK_FLOATS", 2048)


def stored(index: Index) -> dict[str, Any]:
    live = [name for name in names(COUNT) if name in index]
    return {document.id: document for document in index.get(live, vectors=True)}


def assert_same(found: dict[str, tuple[Any, dict, str | None]], index: Index) -> None:
    """Compare id -> (vectors, metadata, text) with what the index returns."""
    wanted = stored(index)
    assert found.keys() == wanted.keys()
    assert GONE not in found
    for name, (vectors, metadata, text) in found.items():
        assert np.array_equal(np.asarray(vectors, np.float32), wanted[name].vectors.numpy())
        assert metadata == wanted[name].metadata
        assert text == wanted[name].text


def test_the_command_knows_every_format():
    assert tuple(EXPORTERS) == FORMATS
    assert all(name == exporter.name for name, exporter in EXPORTERS.items())


def test_parquet_holds_every_live_document_in_several_row_groups(index, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'colreduce[export]'")
    done = export_index(index, "parquet", tmp_path / "out.parquet")
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert file.num_row_groups > 2
    rows = file.read().to_pylist()
    found = {row["id"]: (row["vectors"], json.loads(row["metadata"]), row["text"]) for row in rows}
    assert_same(found, index)
    assert done.documents == len(rows) == COUNT - 1
    assert done.first_stages == {"mean": DIM, "fde": 2 * 4 * DIM}
    assert {len(row["fde"]) for row in rows} == {2 * 4 * DIM}
    about = json.loads(file.schema_arrow.metadata[b"colreduce"])
    assert about["recipe"] == str(index.recipe)


def test_safetensors_build_the_same_index_again(index, tmp_path):
    export_index(index, "safetensors", tmp_path / "out")
    lines = (tmp_path / "out" / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    told = {entry["_id"]: entry for entry in map(json.loads, lines)}
    found = {}
    for batch in vector_batches(tmp_path / "out"):
        for name, vectors in zip(batch.ids, batch.vectors.unpack(), strict=True):
            found[name] = (vectors, told[name]["metadata"], told[name]["text"])
    assert_same(found, index)
    assert len(list((tmp_path / "out").glob("part-*"))) > 2


@pytest.mark.parametrize("codec", ["int8", "pq(parts=4, bits=4)", "residual(bits=2)"])
def test_stored_numbers_are_decoded_by_the_codec_to_the_same_vectors(tmp_path, codec):
    from safetensors.torch import load_file

    with filled(tmp_path / "idx", f"{codec} | mean") as index:
        export_index(index, "safetensors", tmp_path / "out", as_stored=True)
        file = tmp_path / "out" / "learned" / "codec.safetensors"
        state = load_file(file) if file.exists() else {}
        found = {}
        lines = (tmp_path / "out" / "documents.jsonl").read_text(encoding="utf-8").splitlines()
        ids = iter([json.loads(line)["_id"] for line in lines])
        for part in sorted((tmp_path / "out").glob("part-*")):
            arrays = load_file(part)
            codes = {
                name.removeprefix("codes."): array
                for name, array in arrays.items()
                if name.startswith("codes.")
            }
            vectors = index.recipe.codec.decode(codes, state)
            for some in vectors.split(arrays["doclens"].tolist()):
                name = next(ids)
                found[name] = (some, index.get([name])[0].metadata, index.get([name])[0].text)
        assert_same(found, index)
    with pytest.raises(BadData, match="doclens but no doc_vectors"):
        next(vector_batches(tmp_path / "out"))


def test_qdrant_ranks_as_the_index_does(index, tmp_path):
    qdrant = pytest.importorskip("qdrant_client", reason="pip install 'colreduce[export]'")
    done = export_index(index, "qdrant", tmp_path / "out")
    assert done.remarks == []
    client = qdrant.QdrantClient(path=str(tmp_path / "out"))
    try:
        points, _ = client.scroll("documents", limit=100, with_vectors=True)
        found = {
            p.payload["id"]: (p.vector["vectors"], p.payload["metadata"], p.payload["text"])
            for p in points
        }
        assert_same(found, index)
        query = documents(1, seed=9)[0]
        asked = query_vectors(index, query)["vectors"]
        answer = client.query_points("documents", asked, using="vectors", limit=10).points
        hits = index.search(query, 10, exact=True)
        assert [one.payload["id"] for one in answer] == [hit.id for hit in hits]
        scores = [hit.score for hit in hits]
        assert [one.score for one in answer] == pytest.approx(scores, rel=1e-4)
    finally:
        client.close()


def test_a_point_holds_fewer_than_1048576_numbers_and_the_rest_becomes_more_points(tmp_path):
    qdrant = pytest.importorskip("qdrant_client", reason="pip install 'colreduce[export]'")
    dim = 2048
    count = most_vectors(dim) + 1
    with Index.create(tmp_path / "idx", recipe="exact", dim=dim) as index:
        index.add(["long", "short"], embeddings=[torch.ones(count, dim), torch.ones(1, dim)])
        client = qdrant.QdrantClient(":memory:")
        [remark] = upload(client, index, "here")
        assert "1 documents with more than 511 vectors" in remark
        assert client.count("here").count == 3
        [first, second] = client.retrieve(
            "here", [point_id("long"), point_id("long", 1)], with_vectors=True
        )
        parts = {p.payload["part"]: len(p.vector["vectors"]) for p in (first, second)}
        assert parts == {0: most_vectors(dim), 1: 1}
        assert most_vectors(dim) * dim < 1_048_576 <= count * dim
        with pytest.raises(AlreadyExists, match="here"):
            upload(client, index, "here")
        assert client.count("here").count == 3


def test_vectors_that_qdrant_cannot_hold_are_refused_before_anything_is_written(tmp_path):
    pytest.importorskip("qdrant_client", reason="pip install 'colreduce[export]'")
    recipe = "fde(repetitions=20, bits=8, inner_dim=16, store=fp16)"
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM) as index:
        index.add(["a"], embeddings=documents(1))
        with pytest.raises(BadInput, match="fde has 81,920"):
            export_index(index, "qdrant", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lancedb_ranks_as_the_index_does_where_vectors_are_of_unit_length(tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="pip install 'colreduce[export]'")
    with filled(tmp_path / "idx", "fp32 | mean") as index:
        done = export_index(index, "lancedb", tmp_path / "out")
        assert done.remarks == []
        table = lancedb.connect(tmp_path / "out").open_table("documents")
        rows = table.to_arrow().to_pylist()
        found = {r["id"]: (r["vectors"], json.loads(r["metadata"]), r["text"]) for r in rows}
        assert_same(found, index)
        query = documents(1, seed=9)[0][:4]
        asked = query_vectors(index, query)["vectors"]
        answer = table.search(asked, vector_column_name="vectors").distance_type("cosine")
        hits = index.search(query, 10, exact=True)
        assert [row["id"] for row in answer.limit(10).to_list()] == [hit.id for hit in hits]


def test_lancedb_is_said_to_score_otherwise_where_vectors_are_not_of_unit_length(tmp_path):
    pytest.importorskip("lancedb", reason="pip install 'colreduce[export]'")
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as index:
        index.add(["a", "b"], embeddings=[2 * torch.ones(3, DIM), *documents(1)])
        [remark] = export_index(index, "lancedb", tmp_path / "out").remarks
    assert "3 of" in remark
    assert "cosine" in remark


def test_a_vespa_feed_fits_the_schema_beside_it(index, tmp_path):
    export_index(index, "vespa", tmp_path / "out")
    written = (tmp_path / "out" / "schemas" / "colreduce.sd").read_text(encoding="utf-8")
    assert written.count("{") == written.count("}")
    fields = dict(re.findall(r"field (\w+) type (.+) \{", written))
    assert fields["vectors"] == f"tensor<float>(token{{}}, x[{DIM}])"
    assert fields["fde"] == f"tensor<float>(x[{2 * 4 * DIM}])"
    found = {}
    for line in (tmp_path / "out" / "feed.jsonl").read_text(encoding="utf-8").splitlines():
        operation = json.loads(line)
        values = operation["fields"]
        assert values.keys() <= fields.keys()
        assert operation["put"] == f"id:colreduce:colreduce::{values['id']}"
        blocks = values["vectors"]["blocks"]
        assert list(blocks) == [str(number) for number in range(len(blocks))]
        vectors = np.stack([unhexed(row) for row in blocks.values()])
        assert len(unhexed(values["mean"]["values"])) == DIM
        metadata = json.loads(values["metadata"])
        assert f"n={metadata['n']}" in values["facets"]
        found[values["id"]] = (vectors, metadata, values["text"])
    assert_same(found, index)


def unhexed(digits: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(digits), ">f4")


def test_products_with_exported_vectors_rank_as_the_first_stages_do(index, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'colreduce[export]'")
    export_index(index, "parquet", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    query = documents(1, seed=9)[0]
    [asked] = index.ask([query])
    for name, key in (("mean", "first_stage.0"), ("fde", "first_stage.1")):
        vector = query_vectors(index, query)[name]
        products = {row["id"]: float(np.dot(row[name], vector)) for row in table}
        scores: dict[str, float] = {}
        opened = [index.view.segments[segment.name] for segment in index.view.filled]
        for start, one in zip(index.view.starts, opened, strict=False):
            [part] = one.searchers[key].search([asked.query], COUNT)
            for row, score in zip((part.rows + start).tolist(), part.scores.tolist(), strict=True):
                if index.view.live[row]:
                    scores[index.view.id_of(row)] = score
        assert products == pytest.approx(scores, abs=1e-5)


def test_a_first_stage_without_vectors_is_named_as_left_out(tmp_path):
    with filled(tmp_path / "idx", "bm25") as index:
        done = export_index(index, "safetensors", tmp_path / "out")
    assert any("bm25" in remark for remark in done.remarks)
    assert done.first_stages == {}


def test_what_stands_there_is_replaced_only_when_told_to_and_only_by_a_whole_export(
    index, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine", encoding="utf-8")
    with pytest.raises(AlreadyExists, match="--yes"):
        export_index(index, "safetensors", out)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("colreduce.export.safetensors._lines", broken)
        with pytest.raises(ZeroDivisionError):
            export_index(index, "safetensors", out, replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (out / "precious").read_text(encoding="utf-8") == "mine"
    export_index(index, "safetensors", out, replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert not (out / "precious").exists()


def test_an_empty_index_and_an_unknown_format_are_refused(index, tmp_path):
    with (
        Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as empty,
        pytest.raises(BadInput, match="no documents"),
    ):
        export_index(empty, "safetensors", tmp_path / "out")
    with pytest.raises(UnknownName, match="parquet"):
        export_index(index, "parket", tmp_path / "out")
    with pytest.raises(BadInput, match="safetensors"):
        export_index(index, "vespa", tmp_path / "out", as_stored=True)
    with pytest.raises(BadInput, match="no folder"):
        export_index(index, "vespa", tmp_path / "nowhere" / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(tmp_path):
    filled(tmp_path / "idx").close()
    asked = ("export", tmp_path / "idx", "--to", "vespa", tmp_path / "out")
    assert ask(*asked, "--dry-run")["documents"] == COUNT - 1
    assert not (tmp_path / "out").exists()
    answer = ask(*asked)
    assert answer["to"] == "vespa"
    assert answer["bytes"] == sum(
        file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()
    )
    run(*asked, code=1)
    assert "29 documents" in run(*asked, "--yes", "--no-texts")
    assert '"text"' not in (tmp_path / "out" / "feed.jsonl").read_text(encoding="utf-8")
