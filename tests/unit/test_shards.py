"""An index that is split keeps every document, once, and what its methods learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from colreduce.cli import main
from colreduce.errors import AlreadyExists, BadInput, Damaged, NewerFormat, NotAnIndex
from colreduce.index import Index
from colreduce.index.shards import split, total_generation
from colreduce.store import sharding
from colreduce.store.sharding import Sharding, shard_of

DIM = 8


def filled(path: Path, recipe: str, documents: int = 60) -> Path:
    rng = np.random.default_rng(3)
    ids = [f"doc-{number}" for number in range(documents)]
    embeddings = [rng.normal(size=(rng.integers(2, 9), DIM)).astype(np.float32) for _ in ids]
    with Index.create(path, recipe=recipe, dim=DIM) as index:
        for start in range(0, documents, 20):
            part = slice(start, start + 20)
            metadata = [{"number": number} for number in range(documents)[part]]
            texts = [f"text of {one}" for one in ids[part]]
            index.add(ids[part], texts, embeddings=embeddings[part], metadata=metadata)
        index.delete(["doc-7"])
        index.add(["doc-8"], ["put again"], embeddings=[embeddings[9]])
    return path


@pytest.mark.parametrize(
    "recipe",
    [
        "fp32 | exhaustive | maxsim",
        "pca(dim=4) | ward(factor=2) | pq(parts=2, bits=4) | mean | bm25 | rrf",
        "int8 | fde(bits=2, repetitions=4, inner_dim=4) | maxsim(candidates=20)",
    ],
)
def test_every_document_lies_in_one_shard_as_it_was(tmp_path: Path, recipe: str):
    source = filled(tmp_path / "idx", recipe)
    told: list[int] = []
    made = split(source, tmp_path / "shards", 3, told.append)
    assert made == sharding.newest(tmp_path / "shards")
    assert told == [0, 1, 2]
    assert (made.number, made.base, len(made.folders)) == (1, 0, 3)
    seen = []
    with Index.open(source) as whole:
        for number, folder in enumerate(made.folders):
            with Index.open(tmp_path / "shards" / folder) as shard:
                ids = [one for segment in shard.view.snapshot.segments for one in segment.ids]
                assert {shard_of(one, 3) for one in ids} == {number}
                assert {key: set(state) for key, state in shard.pipeline.states.items()} == {
                    key: set(state) for key, state in whole.pipeline.states.items()
                }
                for ours, theirs in zip(
                    shard.get(ids, vectors=True), whole.get(ids, vectors=True), strict=True
                ):
                    assert (ours.text, ours.metadata) == (theirs.text, theirs.metadata)
                    assert ours.vectors is not None
                    assert theirs.vectors is not None
                    assert ours.vectors.equal(theirs.vectors)
                seen += ids
        assert sorted(seen) == sorted(f"doc-{n}" for n in range(60) if n != 7)
        assert whole.get(["doc-8"])[0].text == "put again"
    for folder in made.folders:
        assert Index.verify(tmp_path / "shards" / folder).sound


def test_a_shard_is_changed_like_any_index_and_the_generation_of_all_grows(tmp_path: Path):
    source = filled(tmp_path / "idx", "int8 | exhaustive | maxsim")
    root = tmp_path / "shards"
    made = split(source, root, 2)
    assert total_generation(root, made) == 2
    with pytest.raises(NotAnIndex, match="holds a collection in shards"):
        Index.open(root)
    folder = root / made.folders[made.shard_of("doc-3")]
    with Index.open(folder) as shard:
        before = len(shard)
        shard.add(["doc-3"], ["new"], embeddings=[np.full((2, DIM), 9, np.float32)])
        assert (len(shard), shard.get(["doc-3"])[0].text) == (before, "new")
        hit = shard.search(np.ones((1, DIM), np.float32), 1)[0]
        assert hit.id == "doc-3"
    assert total_generation(root, made) == 3
    again = split(source, root, 4)
    assert (again.number, again.base) == (2, 3)
    assert total_generation(root, again) == 7
    assert set(made.folders).isdisjoint(again.folders)
    assert sharding.newest(root) == again


def test_the_command_splits_and_says_where(tmp_path: Path):
    source = filled(tmp_path / "idx", "int8 | exhaustive | maxsim")
    out = tmp_path / "shards"
    asked = ["shard", str(source), "--out", str(out), "--shards", "2"]
    done = CliRunner().invoke(main, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["format"], told["record"]) == (1, 1)
    assert sum(len(Index.open(folder)) for folder in told["shards"]) == 59
    assert f"{out}: 2 shards, record 2" in CliRunner().invoke(main, asked).stdout
    assert CliRunner().invoke(main, [*asked[:-1], "0"]).exit_code == 2


def test_what_cannot_be_split_leaves_nothing_behind(tmp_path: Path):
    source = filled(tmp_path / "idx", "int8 | exhaustive | maxsim", documents=20)
    with pytest.raises(BadInput, match="would hold no documents: make fewer shards"):
        split(source, tmp_path / "shards", 200)
    assert list((tmp_path / "shards").iterdir()) == []
    with pytest.raises(BadInput, match="0 shards cannot be"):
        split(source, tmp_path / "shards", 0)
    with pytest.raises(AlreadyExists, match="is not empty and holds no shards"):
        split(source, source, 2)
    Index.create(tmp_path / "empty", recipe="exact", dim=DIM).close()
    with pytest.raises(BadInput, match="holds no documents"):
        split(tmp_path / "empty", tmp_path / "shards", 2)


def test_a_record_that_is_not_what_was_written_is_refused(tmp_path: Path):
    assert not sharding.is_sharded(tmp_path)
    with pytest.raises(NotAnIndex, match="no record of shards"):
        sharding.newest(tmp_path)
    names = [sharding.folder_name(1, shard) for shard in range(2)]
    made = sharding.publish(tmp_path, names, number=1, base=0)
    assert sharding.is_sharded(tmp_path)
    assert sharding.newest(tmp_path) == made == Sharding(1, 0, tuple(names))
    with pytest.raises(AlreadyExists, match="somebody else has published shards 1"):
        sharding.publish(tmp_path, names, number=1, base=0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["shards-0000000001.json"]
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    path.chmod(0o644)
    for damaged in (whole[:-1], whole.replace(b"00001", b"00002"), b""):
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match="checksum does not fit"):
            sharding.newest(tmp_path)
    path.unlink()
    sharding.publish(tmp_path, ["../elsewhere"], number=1, base=0)
    with pytest.raises(Damaged, match="is no record of shards"):
        sharding.newest(tmp_path)


def test_a_record_of_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharding, "FORMAT", 9)
    sharding.publish(tmp_path, [sharding.folder_name(1, 0)], number=1, base=0)
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="newer colreduce"):
        sharding.newest(tmp_path)


def test_ids_are_spread_evenly_and_always_the_same_way():
    counts = np.bincount([shard_of(f"doc-{number}", 8) for number in range(8000)], minlength=8)
    assert counts.min() > 900
    assert [shard_of(one, 8) for one in ("a", "b", "ä")] == [0, 4, 0]
