from __future__ import annotations

import threading

import pytest
import torch

from colreduce import Index
from colreduce.errors import BadInput, NotFound
from colreduce.filters import Columns, parse
from tests.unit.test_index import DIM, documents, names, queries

RECIPES = [
    "exact",
    "window(factor=4) | int8 | mean | maxsim(candidates=60)",
    "pca(dim=8) | ward(factor=3) | fp16 | fde(bits=2, repetitions=3, inner_dim=4)",
]


@pytest.fixture(params=RECIPES)
def index(request, tmp_path):
    with Index.create(tmp_path / "idx", recipe=request.param, dim=DIM) as made:
        items = documents(60)
        for start in range(0, 60, 20):
            part = slice(start, start + 20)
            notes = [{"n": n} for n in range(start, start + 20)]
            made.add(names(60)[part], embeddings=items[part], metadata=notes)
        yield made


def answers(index: Index, k: int = 10) -> list[list[tuple[str, float]]]:
    return [
        [(hit.id, round(hit.score, 4)) for hit in index.search(query, k=k)] for query in queries()
    ]


def test_a_deleted_document_is_never_found_again(index):
    gone = [hit.id for hit in index.search(queries()[0], k=5)]
    assert index.delete([*gone, "never there"]) == 5
    assert len(index) == 55
    for query in queries():
        assert not {hit.id for hit in index.search(query, k=60)} & set(gone)
    with pytest.raises(NotFound):
        index.get(gone[:1])
    with Index.open(index.path) as again:
        assert len(again) == 55
        assert answers(again) == answers(index)


def test_deleting_what_is_not_there_changes_nothing(index):
    generation = index.generation
    assert index.delete(["never there"]) == 0
    assert index.generation == generation
    with pytest.raises(BadInput):
        index.delete(["a", "a"])


def test_a_document_can_come_back_after_its_deletion(index):
    item = documents(60)[7]
    index.delete(["d007"])
    index.add(["d007"], embeddings=[item], metadata=[{"back": True}])
    index.compact()
    assert index.get(["d007"])[0].metadata == {"back": True}
    assert len(index) == 60


def test_compaction_changes_no_answer(index):
    index.delete(names(60)[3:50:5])
    index.add(["d001"], embeddings=documents(1, seed=5))
    before, everything = answers(index), answers(index, k=60)
    index.compact()
    assert len(index.view.snapshot.segments) == 1
    assert answers(index) == before
    assert answers(index, k=60) == everything
    with Index.open(index.path) as again:
        assert answers(again) == before


def test_purging_leaves_no_byte_of_what_was_deleted(tmp_path):
    secret = "a name nobody shall read again"
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as index:
        index.add(
            ["keep", "drop"],
            ["kept text", secret],
            embeddings=documents(2),
            metadata=[{}, {"note": secret}],
        )
        index.delete(["drop"])
        index.compact(purge=True)
        assert len(index) == 1
    files = [file for file in (tmp_path / "idx").rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_a_saved_copy_answers_like_the_original(index, tmp_path):
    index.delete(["d003"])
    assert index.snapshot(tmp_path / "copy.tar") == index.generation
    with Index.restore(tmp_path / "copy.tar", tmp_path / "restored") as restored:
        assert answers(restored) == answers(index)
        assert restored.get(["d004"])[0].metadata == {"n": 4}


def test_damage_is_named_and_nothing_is_answered(index):
    index.close()
    assert Index.verify(index.path).sound
    [file, *_] = sorted(index.path.glob("segments/*/pack.bin"))
    file.chmod(0o644)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    report = Index.verify(index.path)
    assert not report.sound
    assert any("pack.bin" in problem for problem in report.problems)
    with pytest.raises(Exception, match=r"pack\.bin"):
        Index.open(index.path)


def test_every_first_stage_finds_a_new_document_at_once(index):
    new = torch.nn.functional.normalize(torch.ones(2, DIM), dim=1)
    index.add(["new"], embeddings=[new])
    assert index.search(new, k=1)[0].id == "new"


@pytest.mark.parametrize("wanted", ["n < 10", {"n": {"gte": 55}}, "n in (1, 2) or n >= 20"])
def test_a_filter_lets_only_matching_documents_through(index, wanted):
    index.delete(["d001"])
    everything = {hit.id: hit.score for hit in index.search(queries()[0], k=60, exact=True)}
    hits = index.search(queries()[0], k=60, candidates=60, filter=wanted)
    expected = Columns([{"n": n} for n in range(60)]).mask(parse(wanted))
    matching = {f"d{n:03d}" for n in expected.nonzero()[0]} - {"d001"}
    assert {hit.id for hit in hits} == matching
    assert all(hit.score == pytest.approx(everything[hit.id], 1e-5) for hit in hits)


def test_a_small_filtered_set_is_searched_exactly(index):
    few = "n in (3, 30, 33, 47, 59)"
    exact = index.search(queries()[1], k=5, exact=True, filter=few)
    assert [hit.id for hit in index.search(queries()[1], k=5, candidates=5, filter=few)] == [
        hit.id for hit in exact
    ]
    assert len(exact) == 5


def test_a_filter_that_cannot_be_read_is_explained(index):
    with pytest.raises(BadInput, match="wanted a value"):
        index.search(queries()[0], filter="n >")
    assert index.search(queries()[0], filter="n = 1000") == []


def test_a_document_is_got_from_one_generation_while_others_compact(tmp_path):
    with Index.create(tmp_path / "idx", recipe="fp32", dim=4) as index:
        stop, wrong = threading.Event(), []

        def get() -> None:
            while not stop.is_set():
                try:
                    [found] = index.get(["last"], vectors=True)
                    if found.id != "last" or found.metadata != {"last": True}:
                        wrong.append(found)
                except NotFound:
                    continue
                except Exception as problem:
                    wrong.append(problem)

        readers = [threading.Thread(target=get) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(40):
            index.add([f"d{number}"], embeddings=[torch.eye(4)])
            index.add(["last"], embeddings=[torch.eye(4)], metadata=[{"last": True}])
            index.compact()
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
