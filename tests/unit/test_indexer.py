from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colreduce_indexer.job import Built, add_all, build
from colreduce_indexer.plan import Settings
from colreduce_indexer.progress import Silence
from colreduce_indexer.sizes import memory, piece_size, segment_pieces, window_size
from colreduce_indexer.sources import open_source
from colreduce_indexer.stages import ahead

from colreduce.errors import AlreadyExists, BadData, BadInput, Locked, NotAnIndex, Stopped
from colreduce.evaluate.sample import reservoir
from colreduce.index import Index
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.store import unfinished
from tests.hashing_encoder import HashingEncoder

RECIPE = Recipe.parse("window(size=2) | int8")


class Listener(Silence):
    """Keeps the events, and stops the build when a piece of its choice is kept."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.stop_after = stop_after

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        assert done <= total or total == 0

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.events.append((kind, facts))
        if kind == "piece" and facts["piece"] == self.stop_after:
            raise KeyboardInterrupt

    def pieces_begun(self) -> list[int]:
        return [facts["piece"] for kind, facts in self.events if kind == "piece begun"]


def documents(path: Path, count: int, tail: str = "") -> Path:
    entries = [
        {"_id": f"d{i}", "title": f"title{i}", "text": f"text {i} end", "metadata": {"number": i}}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)
    return path


def run(
    path: Path,
    out: Path,
    encoder: HashingEncoder | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> Built:
    encoder = encoder or HashingEncoder()
    settings = Settings(**{"recipe": RECIPE, "batch_size": 4, **options})
    source = open_source(path, vectors=False)
    return build(source, out, settings, encoder=encoder, teller=listener or Listener())


def test_an_index_built_in_one_go_answers_like_one_that_was_filled_by_hand(tmp_path: Path):
    encoder = HashingEncoder()
    built = run(documents(tmp_path / "docs.jsonl", 150), tmp_path / "idx", encoder)
    assert built.description["documents"] == 150
    assert built.description["segments"] == 1
    assert built.description["generation"] == 2  # the documents, then the ledger
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
        index.add(["d7"], ["something else"])
        assert index.get(["d7"])[0].text == "something else"
    assert Index.verify(tmp_path / "idx").sound


def test_seconds_are_told_by_stage_and_texts_can_be_left_out(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 20)
    built = run(path, tmp_path / "idx", store_texts=False)
    stages = {"check", "fit", "read", "encode", "reduce", "first_stage", "write", "publish"}
    assert set(built.seconds) == stages | {"ledger"}
    assert built.to_dict()["format"] == 1
    assert built.description["bytes"]["texts"] == 0


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ('{"_id": "x", "te', "line 21: not a whole JSON record"),
        ('{"_id": "d3", "text": "again"}\n', r"line 21: the id 'd3' was at .* line 4 already"),
        ('{"_id": "x"}\n', "line 21: the record 'x' has no 'text'"),
        ('{"_id": "x\\u0007", "text": "a"}\n', "line 21: the id .* holds a control character"),
        ('{"_id": "x", "text": "\\ud800"}\n', "line 21: the text of 'x' is not valid Unicode"),
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
    for out in (tmp_path / "idx", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        with pytest.raises(BadData, match="document 'd571': has a vector of length 0"):
            build(open_source(path, vectors=True), out, Settings(recipe=RECIPE))
    assert not (tmp_path / "idx").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_recipe_that_cannot_be_fitted_leaves_nothing_behind(tmp_path: Path):
    path = tmp_path / "v.npz"
    np.savez(path, one=np.ones((2, 3), np.float32))
    settings = Settings(recipe=Recipe.parse("int8 | bm25"))
    with pytest.raises(BadInput, match="bm25"):
        build(open_source(path, vectors=True), tmp_path / "idx", settings)
    assert not (tmp_path / "idx").exists()


def test_what_stands_there_already_is_not_touched(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 5)
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx" / "precious").write_text("mine")
    with pytest.raises(AlreadyExists, match="it holds 'precious'"):
        run(path, tmp_path / "idx")
    assert (tmp_path / "idx" / "precious").read_text() == "mine"
    run(path, tmp_path / "done")
    with pytest.raises(AlreadyExists, match="already holds an index"):
        run(path, tmp_path / "done")
    with pytest.raises(AlreadyExists, match="already holds an index"):
        run(path, tmp_path / "done", resume=False)


def test_an_empty_document_is_indexed_as_what_the_encoder_gives(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_text('{"_id": "full", "text": "some words"}\n{"_id": "empty", "text": ""}\n')
    encoder = HashingEncoder()
    built = run(path, tmp_path / "idx", encoder)
    assert built.description["documents"] == 2
    with Index.open(tmp_path / "idx", encoder=encoder) as index:
        assert {hit.id for hit in index.search("words", 5)} == {"full", "empty"}


def test_a_build_that_was_stopped_goes_on_and_ends_the_same(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 150)
    whole = run(path, tmp_path / "whole", piece=16)
    for stop_after in (2, 5, 9):
        with pytest.raises(Stopped, match=f"{stop_after + 1} of 10 pieces are finished"):
            run(path, tmp_path / "idx", listener=Listener(stop_after), piece=16)
        with pytest.raises(NotAnIndex, match="still being built"):
            Index.open(tmp_path / "idx")
        state = unfinished(tmp_path / "idx")
        assert state is not None
        assert sorted(state.done) == list(range(stop_after + 1))
    last = Listener()
    built = run(path, tmp_path / "idx", listener=last, piece=16)
    assert last.pieces_begun() == []
    assert built.pieces == {"all": 10, "found": 10}
    assert built.digest == whole.digest
    assert built.description["documents"] == 150
    for about in (built, whole):
        del about.description["ledger"]["seconds"]
    assert built.description["ledger"] == whole.description["ledger"]
    assert {entry.name for entry in (tmp_path / "idx").iterdir()} == {
        entry.name for entry in (tmp_path / "whole").iterdir()
    }


def judged_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "judged"
    (folder / "qrels").mkdir(parents=True)
    documents(folder / "corpus.jsonl", 60)
    lines = [json.dumps({"_id": f"q{n}", "text": f"title{n} text {n}"}) for n in range(12)]
    (folder / "queries.jsonl").write_text("\n".join(lines))
    grades = "".join(f"q{n}\td{n}\t1\n" for n in range(10))
    (folder / "qrels" / "dev.tsv").write_text(f"query-id\tcorpus-id\tscore\n{grades}")
    return folder


def test_the_ledger_of_a_build_is_measured_on_given_queries_and_their_judgements(tmp_path: Path):
    folder = judged_folder(tmp_path)
    asked = {"queries": folder, "split": "dev", "piece": 16}
    with pytest.raises(Stopped):
        run(folder, tmp_path / "idx", listener=Listener(1), **asked)
    with pytest.raises(BadInput, match="split"):
        run(folder, tmp_path / "idx", **{**asked, "split": None})
    ledger = run(folder, tmp_path / "idx", **asked).description["ledger"]
    assert ledger["queries"] == {"kind": "judged", "count": 10}
    assert ledger["measures"] == ["nDCG@10", "R@10", "agreement@10"]
    assert ledger["stages"][0]["values"]["R@10"]["value"] == 1.0
    ledger = run(folder, tmp_path / "given", queries=folder).description["ledger"]
    assert ledger["queries"] == {"kind": "given", "count": 12}
    assert ledger["measures"] == ["agreement@10"]


def test_a_piece_that_was_damaged_meanwhile_is_made_again(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 100)
    whole = run(path, tmp_path / "whole", piece=16)
    with pytest.raises(Stopped):
        run(path, tmp_path / "idx", listener=Listener(4), piece=16)
    [file] = (tmp_path / "idx" / "building").glob("piece-0000000001-*/pack.bin")
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1])
    last = Listener()
    assert run(path, tmp_path / "idx", listener=last, piece=16).digest == whole.digest
    assert last.pieces_begun() == [1, 5, 6]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": Recipe.parse("ward(factor=2) | int8")}, r"recipe was 'window\(size=2\)"),
        ({"seed": 3}, "seed was 0, now 3"),
        ({"batch_size": 8}, "batch size was 4, now 8"),
        ({"limit": 50}, "limit was None, now 50"),
        ({"store_texts": False}, "store texts was True, now False"),
        ({"ledger": False}, "ledger was True, now False"),
        ({"encoder": HashingEncoder("other")}, "encoder was 'name hashing, dim 16'"),
    ],
)
def test_another_build_does_not_go_on_with_what_was_begun(
    tmp_path: Path, changed: dict[str, Any], message: str
):
    path = documents(tmp_path / "docs.jsonl", 60)
    with pytest.raises(Stopped):
        run(path, tmp_path / "idx", listener=Listener(1), piece=16)
    with pytest.raises(BadInput, match=message):
        run(path, tmp_path / "idx", **{"piece": 16, **changed})
    assert len(unfinished(tmp_path / "idx").done) == 2  # type: ignore[union-attr]
    built = run(path, tmp_path / "idx", **{"piece": 16, "resume": False, **changed})
    assert built.pieces["found"] == 0


def test_a_source_that_changed_is_refused_and_one_that_was_only_touched_is_not(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 60)
    with pytest.raises(Stopped):
        run(path, tmp_path / "idx", listener=Listener(1), piece=16)
    text = path.read_text()
    path.write_text(text.replace("text 50 end", "text 50 END"))
    with pytest.raises(BadData, match="has changed since the build was begun"):
        run(path, tmp_path / "idx", piece=16)
    path.write_text(text)
    assert run(path, tmp_path / "idx", piece=16).pieces == {"all": 4, "found": 2}


def test_a_build_that_runs_is_not_joined_by_another(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 60)

    class Second(Listener):
        def event(self, kind: str, facts: Mapping[str, Any]) -> None:
            if kind == "piece":
                with pytest.raises(Locked, match="is building"):
                    run(path, tmp_path / "idx", piece=16)
            super().event(kind, facts)

    listener = Second()
    run(path, tmp_path / "idx", listener=listener, piece=16)
    assert listener.pieces_begun() == [0, 1, 2, 3]


def test_a_build_that_showed_its_index_and_then_died_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = documents(tmp_path / "docs.jsonl", 60)

    def dies(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as broken:
        broken.setattr("colreduce_indexer.job._measure", dies)
        with pytest.raises(OSError, match="no more"):
            run(path, tmp_path / "idx", piece=16)
    with Index.open(tmp_path / "idx", encoder=HashingEncoder()) as index:
        assert len(index) == 60
        assert index.describe()["ledger"] is None
    with pytest.raises(AlreadyExists):
        run(path, tmp_path / "idx", piece=16, resume=False)
    shutil.copytree(tmp_path / "idx", tmp_path / "changed")
    with Index.open(tmp_path / "changed", encoder=HashingEncoder()) as index:
        index.delete(["d3"])
    built = run(path, tmp_path / "changed", piece=16)
    assert built.description["documents"] == 59
    assert built.description["ledger"] is None
    built = run(path, tmp_path / "idx", piece=16)
    assert built.description["ledger"]["documents"] == 60
    assert unfinished(tmp_path / "idx") is None


def test_bad_records_are_left_out_and_told_in_a_file(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 40, '{"_id": 7.5}\n{"_id": "d3", "text": ""}\n')
    built = run(path, tmp_path / "new" / "idx", max_rejects=2)
    assert (built.rejected, built.description["documents"]) == (2, 40)
    lines = (tmp_path / "new" / "idx.rejects.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [one["record"] for one in told] == [40, 41]
    assert [one["place"] for one in told] == [f"{path} line 41", f"{path} line 42"]
    assert told[0]["reason"] == "no '_id'; wanted a string that is not empty"


def test_what_comes_in_for_an_id_that_came_twice_has_an_id_of_its_own(tmp_path: Path):
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"_id": one, "text": one}) + "\n" for one in "aabbcd"))
    built = run(path, tmp_path / "idx", limit=3, max_rejects=2)
    assert (built.description["documents"], built.rejected) == (3, 2)
    with Index.open(tmp_path / "idx") as index:
        assert [one.text for one in index.get(["a", "b", "c"])] == ["a", "b", "c"]


def test_events_say_how_fast_it_goes_and_what_is_lost(tmp_path: Path):
    listener = Listener()
    run(documents(tmp_path / "docs.jsonl", 60), tmp_path / "idx", listener=listener, piece=16)
    kinds = [kind for kind, _ in listener.events]
    assert kinds[0] == "begun"
    assert kinds.count("piece") == kinds.count("piece begun") == 4
    last = [facts for kind, facts in listener.events if kind == "progress"][-1]
    assert (last["documents"], last["of"]) == (60, 60)
    assert last["documents_per_second"] > 0
    assert last["vectors_per_second"] > last["documents_per_second"]
    assert sum(last["shares"].values()) == pytest.approx(1)
    assert 0 <= listener.events[-1][1]["loss"] <= 1


def test_more_documents_are_added_in_one_commit(tmp_path: Path):
    run(documents(tmp_path / "docs.jsonl", 20), tmp_path / "idx")
    more = tmp_path / "more.jsonl"
    more.write_text('{"_id": "d3", "text": "new words"}\n{"_id": "x", "text": "other"}\n{}\n')
    with Index.open(tmp_path / "idx", encoder=HashingEncoder()) as index:
        before = index.generation
        taken = add_all(
            index,
            open_source(more, vectors=False),
            Settings(recipe=RECIPE, max_rejects=1),
            encoder=index.encoder,
            rejects_file=tmp_path / "rejects.jsonl",
        )
        assert index.generation == before + 1
        assert len(index) == 21
        assert index.get(["d3"])[0].text == "new words"
    assert "encode" in taken
    assert (tmp_path / "rejects.jsonl").read_text().count("\n") == 1


def test_amounts_of_memory_are_read_and_sizes_follow_from_them():
    assert memory("2GB") == 2_000_000_000
    assert memory("1.5 GiB") == 3 << 29
    assert memory("512mb") == 512_000_000
    with pytest.raises(BadInput, match="no amount of memory"):
        memory("much")
    with pytest.raises(BadInput, match="too little"):
        memory("10MB")
    page = Ragged.pack([np.ones((1024, 128), np.float32)])  # 512 KiB
    assert window_size(page, memory("2GB"), 256) == 128
    assert window_size(page, memory("512MB"), 256) == 32
    assert piece_size(page, memory("2GB"), 256) == 256
    passage = Ragged.pack([np.ones((32, 128), np.float32)])  # 16 KiB
    assert window_size(passage, memory("2GB"), 256) == 256
    assert piece_size(passage, memory("2GB"), 256) == 2048
    assert segment_pieces(memory("2GB"), 2048) == 59


class Broken(HashingEncoder):
    """Gives vectors of no length for one document."""

    broken = ""

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        for text in texts:
            [batch] = super().documents([text])
            factor = 0.0 if text.startswith(f"title{self.broken} ") else 1.0
            yield batch.with_tokens(batch.tokens * factor)


def test_vectors_that_an_encoder_gets_wrong_stop_the_build_and_name_the_document(tmp_path: Path):
    path = documents(tmp_path / "docs.jsonl", 700)
    drawn = set(reservoir(range(700), 512, 0))  # of which the methods learn
    encoder = Broken()
    encoder.broken = str(next(number for number in range(700) if number not in drawn))
    with pytest.raises(BadInput, match=f"document 'd{encoder.broken}' has a vector of length 0"):
        run(path, tmp_path / "idx", encoder, piece=16, ledger=False)
    state = unfinished(tmp_path / "idx")
    assert state is not None
    assert sorted(state.done) == list(range(int(encoder.broken) // 16))


def test_stages_work_at_the_same_time():
    def slow(items: Iterable[int]) -> Iterator[int]:
        for item in items:
            time.sleep(0.05)
            yield item

    started = time.perf_counter()
    with ahead(lambda: slow(range(12))) as first, ahead(lambda: slow(first)) as second:
        assert list(slow(second)) == list(range(12))
    assert time.perf_counter() - started < 0.75 * 3 * 12 * 0.05


def test_a_stage_that_runs_ahead_waits_and_tells_what_broke_it():
    made = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number
        raise ValueError("at the end")

    with ahead(numbers) as stream:
        first = next(stream)
        assert (first, threading.active_count() > 1) == (0, True)
        assert len(made) <= 4
        assert [next(stream) for _ in range(9)] == list(range(1, 10))
        with pytest.raises(ValueError, match="at the end"):
            next(stream)
    with ahead(numbers) as stream:
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name == "build"]
