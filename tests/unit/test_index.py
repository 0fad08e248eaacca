from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce import Index
from colreduce.candidates.vectors import flat
from colreduce.errors import AlreadyExists, BadInput, NotAnIndex, NotFound, ShapeMismatch
from colreduce.ragged import Ragged
from tests.reference.maxsim import maxsim as slow_maxsim

DIM = 16


def documents(count: int, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 30, (count,), generator=draw).tolist()
    items = [torch.randn(length, DIM, generator=draw) for length in lengths]
    return [torch.nn.functional.normalize(item, dim=1) for item in items]


def names(count: int) -> list[str]:
    return [f"d{number:03d}" for number in range(count)]


def add_and_fail(index: Index, ids: list[str], items: list[torch.Tensor]) -> None:
    with index.batch() as batch:
        batch.add(ids, embeddings=items)
        raise ZeroDivisionError


def queries(count: int = 5) -> list[torch.Tensor]:
    return [query[:4] for query in documents(count, seed=99)]


@pytest.fixture
def index(tmp_path):
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as made:
        made.add(names(40), embeddings=documents(40))
        yield made


def test_an_exact_index_ranks_as_the_definition_of_maxsim_does(index):
    for query in queries():
        scores = {
            name: slow_maxsim(query.numpy(), item.numpy())
            for name, item in zip(names(40), documents(40), strict=True)
        }
        best = sorted(scores, key=lambda name: (-scores[name], name))[:10]
        hits = index.search(query, k=10)
        assert [hit.id for hit in hits] == best
        assert [hit.score for hit in hits] == pytest.approx([scores[name] for name in best], 1e-5)


def test_what_was_added_is_there_after_reopening(index):
    before = index.search(queries()[0])
    index.close()
    with Index.open(index.path) as again:
        assert len(again) == 40
        assert again.search(queries()[0]) == before


def test_adding_in_parts_answers_like_adding_at_once(index, tmp_path):
    items = documents(40)
    with Index.create(tmp_path / "parts", recipe="exact", dim=DIM) as parts:
        for start in range(0, 40, 7):
            parts.add(names(40)[start : start + 7], embeddings=items[start : start + 7])
        assert len(parts) == 40
        for query in queries():
            ours, theirs = parts.search(query), index.search(query)
            assert [hit.id for hit in ours] == [hit.id for hit in theirs]
            assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], 1e-5)


def test_adding_an_id_again_replaces_the_document(index):
    new = torch.nn.functional.normalize(torch.ones(1, DIM), dim=1)
    index.add(["d007"], embeddings=[new], metadata=[{"new": True}])
    assert len(index) == 40
    [hit] = index.search(new, k=1)
    assert hit.id == "d007"
    assert hit.score == pytest.approx(1, abs=1e-5)
    assert hit.metadata == {"new": True}
    assert [h.id for h in index.search(new, k=40)].count("d007") == 1


def test_equal_scores_are_ordered_by_id(tmp_path):
    same = documents(1)[0]
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as index:
        index.add(["c", "a", "b"], embeddings=[same, same, same])
        assert [hit.id for hit in index.search(queries()[0], k=3)] == ["a", "b", "c"]
        assert [hit.id for hit in index.search(queries()[0], k=2)] == ["a", "b"]


def test_a_batch_is_seen_whole_or_not_at_all(index):
    with pytest.raises(ZeroDivisionError):
        add_and_fail(index, ["x"], documents(1))
    assert len(index) == 40
    with pytest.raises(NotFound, match="no document 'x'"):
        index.get(["x"])
    with index.batch() as batch:
        batch.add(["x"], embeddings=documents(1))
        batch.add(["y"], embeddings=documents(1))
        assert len(index) == 40
    assert len(index) == 42


def test_a_batch_that_failed_teaches_nothing(tmp_path):
    with Index.create(tmp_path / "idx", recipe="pca(dim=4) | fp32", dim=DIM) as index:
        with pytest.raises(ZeroDivisionError):
            add_and_fail(index, names(40), documents(40))
        assert index.pipeline.states == {}
        index.add(names(40), embeddings=documents(40, seed=5))
        axes = index.pipeline.states["transform.0"]["axes"]
    with Index.open(index.path) as again:
        assert torch.equal(again.pipeline.states["transform.0"]["axes"], axes)


@pytest.mark.parametrize("recipe", ["window(factor=4) | int8", "ward(factor=3) | fp16", "fp16"])
def test_a_reduced_index_scores_its_own_stored_vectors(tmp_path, recipe):
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM) as index:
        index.add(names(30), embeddings=documents(30))
        [hit] = index.search(queries()[0], k=1)
        [document] = index.get([hit.id], vectors=True)
        assert document.vectors is not None
        expected = slow_maxsim(queries()[0].numpy(), document.vectors.numpy())
        assert hit.score == pytest.approx(expected, rel=1e-5)


def test_the_description_counts_vectors_and_bytes(tmp_path):
    with Index.create(tmp_path / "idx", recipe="window(factor=4) | int8", dim=DIM) as index:
        items = [torch.ones(8, DIM) for _ in range(10)]
        index.add(names(10), embeddings=items)
        about = index.describe()
    assert about["documents"] == 10
    assert about["tokens_per_doc"] == 8
    assert about["vectors_per_doc"] == 2
    assert about["raw_bytes_per_doc"] == 8 * DIM * 4
    assert about["bytes"]["vectors"] >= 10 * 2 * (DIM + 2)
    files = [file for file in (tmp_path / "idx").rglob("*") if file.is_file()]
    on_disk = sum(file.stat().st_size for file in files if file.name not in ("BALLAST", "LOCK"))
    apart = ("texts", "assignment", "sample", "ledger")
    counted = about["bytes"]["total"] + sum(about["bytes"][part] for part in apart)
    assert on_disk == counted


def test_assignments_are_stored_on_request(tmp_path):
    made = Index.create(
        tmp_path / "idx", recipe="window(size=2) | fp32", dim=DIM, store_assignment=True
    )
    with made as index:
        index.add(["a"], embeddings=[torch.ones(4, DIM)])
        [segment] = index.view.snapshot.segments
        assert segment.arrays["assignment"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (dict(ids=["a"], embeddings=[torch.ones(2, 3)]), "takes 16-wide vectors"),
        (dict(ids=["a"], embeddings=[torch.full((2, DIM), torch.inf)]), "not finite"),
        (
            dict(ids=["a"], embeddings=[torch.zeros(2, DIM)]),
            "document 'a' has a vector of length 0",
        ),
        (dict(ids=["a"], embeddings=[torch.ones(0, DIM)]), "no vectors"),
        (dict(ids=["a", "a"], embeddings=[torch.ones(2, DIM)] * 2), "'a' is given twice"),
        (dict(ids=["a"], embeddings=[torch.ones(2, DIM)] * 2), "2 embeddings for 1 ids"),
        (dict(ids=[""], embeddings=[torch.ones(2, DIM)]), "has 0 bytes"),
        (dict(ids=["a\n"], embeddings=[torch.ones(2, DIM)]), "cannot be printed"),
        (dict(ids=["a" * 257], embeddings=[torch.ones(2, DIM)]), "257 bytes"),
        (dict(ids=["a"]), "wanted documents"),
        (dict(ids=["a"], documents=["text"]), "built from vectors"),
        (dict(ids=["a"], embeddings=[torch.ones(8193, DIM)]), "8193 vectors"),
        (dict(ids=["a"], embeddings=[torch.ones(2, DIM)], metadata=[{}, {}]), "2 metadata"),
        (dict(ids=["a"], embeddings=[torch.ones(2, DIM)], metadata=["x"]), "wanted a mapping"),
        (dict(ids=[], embeddings=[]), "ids is empty"),
    ],
)
def test_bad_documents_are_refused_and_change_nothing(index, call, words):
    generation, before = index.generation, index.search(queries()[0])
    with pytest.raises(BadInput, match=words):
        index.add(**call)
    assert index.generation == generation
    assert index.search(queries()[0]) == before


@pytest.mark.parametrize(
    ("query", "settings", "field"),
    [
        (np.ones((2, 3), np.float32), {}, "query"),
        (np.ones(DIM, np.float32), {}, "query"),
        (np.full((2, DIM), np.nan, np.float32), {}, "query"),
        (np.zeros((2, DIM), np.float32), {}, "vectors"),
        (np.ones((513, DIM), np.float32), {}, "query"),
        (np.ones((2, DIM), np.float32), {"k": 0}, "k"),
        (np.ones((2, DIM), np.float32), {"k": 1001}, "k"),
        (np.ones((2, DIM), np.float32), {"candidates": -1}, "candidates"),
        (np.ones((2, DIM), np.float32), {"candidates": 10_001}, "candidates"),
        ("text", {}, "query"),
    ],
)
def test_bad_queries_name_the_field(index, query, settings, field):
    with pytest.raises(BadInput) as caught:
        index.search(query, **settings)
    assert caught.value.field == field


def test_more_hits_than_documents_gives_all_documents(index):
    assert len(index.search(queries()[0], k=1000)) == 40


def test_an_empty_index_answers_with_nothing(tmp_path):
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as index:
        assert index.search(queries()[0]) == []
        assert len(index) == 0


def test_a_folder_that_is_no_index_is_said_to_be_none(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(NotAnIndex):
        Index.open(tmp_path)
    with pytest.raises(NotAnIndex):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(AlreadyExists):
        Index.create(tmp_path, recipe="exact", dim=DIM)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["readme.txt"]


def test_a_recipe_that_is_wrong_leaves_no_folder(tmp_path):
    with pytest.raises(BadInput):
        Index.create(tmp_path / "idx", recipe="wrad", dim=DIM)
    with pytest.raises(BadInput, match="either encoder"):
        Index.create(tmp_path / "idx", recipe="exact")
    assert not (tmp_path / "idx").exists()


def test_a_reader_sees_a_new_generation_when_it_looks(index):
    with Index.open(index.path) as reader:
        index.add(["new"], embeddings=documents(1))
        assert len(reader) == 40
        reader.refresh()
        assert len(reader) == 41


def test_ragged_batches_can_be_added_as_they_are(tmp_path):
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as index:
        with index.batch() as batch:
            batch.add(names(5), embeddings=Ragged.pack(documents(5)))
        assert len(index) == 5


def test_a_search_with_the_wrong_width_says_what_is_wanted(index):
    with pytest.raises(ShapeMismatch, match=r"wanted query vectors \[tokens, 16\], got \[2, 3\]"):
        index.search(torch.ones(2, 3))


def test_an_index_begun_with_few_tokens_keeps_its_width_for_good(tmp_path):
    few, more = documents(1, seed=4)[0][:3], documents(40)
    with Index.create(tmp_path / "idx", recipe="pca(dim=8) | fp32", dim=DIM) as index:
        index.add(["first"], embeddings=[few])
    with Index.open(tmp_path / "idx") as index:
        index.add(names(40), embeddings=more)
        [hit] = index.search(few, k=1)
        assert hit.id == "first"
        assert hit.score == pytest.approx(slow_maxsim(few.numpy(), few.numpy()), rel=1e-5)
        assert index.get(["d001"], vectors=True)[0].vectors.shape[1] == DIM


def test_a_search_looks_inside_its_first_stage_whether_anybody_still_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(flat, "WORTH_SHARING", 1)
    monkeypatch.setattr(flat, "BLOCK_FLOATS", 1)
    looks = 0

    class NobodyWaits(Exception): ...

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks >= 20:
            raise NobodyWaits

    recipe = "fp32 | mean | maxsim(candidates=3)"
    with Index.create(tmp_path / "idx", recipe=recipe, dim=DIM) as index:
        index.add(names(40), embeddings=documents(40))
        [asked] = index.ask(queries(1), 3, check=look)
        with pytest.raises(NobodyWaits):
            index.view.search(asked)
        assert "first_stage" not in asked.seconds
        assert looks < 20 + 16  # every thread looks once more
