"""An index that is prepared: nobody sees it, its pieces stay, and one commit shows all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from colreduce.errors import AlreadyExists, Damaged, NotAnIndex
from colreduce.store import Store, unfinished

RECORD = {"what": "numbers", "pieces": 2}


def put(store: Store, number: int, ids: list[str]) -> None:
    writer = store.begin()
    writer.add(ids, [{"piece": number}] * len(ids))
    writer.append("numbers", np.arange(len(ids), dtype=np.int64) + 10 * number, per="document")
    store.staging.keep(number, writer, 2 * number)


def begun(path: Path) -> Store:
    store = Store.prepare(path, {"dim": 3})
    store.staging.found(RECORD, {"known": {"vector": np.ones(3)}})
    return store


def test_pieces_that_were_kept_become_one_segment_in_one_commit(tmp_path: Path):
    with begun(tmp_path / "idx") as store:
        put(store, 0, ["a", "b"])
        with pytest.raises(NotAnIndex, match="still being built"):
            Store.open(tmp_path / "idx")
    with Store.prepare(tmp_path / "idx", {"dim": 3}) as store:
        assert store.staging.numbers() == [0]
        put(store, 1, ["c", "d"])
        pieces = [store.staging.open(number) for number in store.staging.numbers()]
        writer = store.gathered(pieces, lambda moved, writer: None)
        assert store.commit([writer]) == 1
        store.staging.clear()
        with store.begin() as later:
            later.add(["b"], [{"piece": 9}])
            store.commit([later])
        snapshot = store.snapshot()
        assert snapshot.segments[0].arrays["numbers"].tolist() == [0, 1, 10, 11]
        assert snapshot.segments[0].seqs.tolist() == [0, 1, 2, 3]
        assert snapshot.count == 4
        place = snapshot.find("b")
        assert place is not None
        assert snapshot.segments[place[0]].metadata(place[1]) == {"piece": 9}
    assert unfinished(tmp_path / "idx") is None
    assert not list((tmp_path / "idx").glob("*building*"))
    with Store.open(tmp_path / "idx", write=True) as store:
        assert store.snapshot().count == 4


def test_a_build_says_how_far_it_is_and_who_works_on_it(tmp_path: Path):
    assert unfinished(tmp_path) is None
    with begun(tmp_path / "idx") as store:
        put(store, 1, ["c", "d"])
        running = unfinished(tmp_path / "idx")
        assert running is not None
        assert running.done == {1}
        assert running.bytes > 0
        assert running.holder is not None
        assert running.record["what"] == "numbers"
        known = store.staging.arrays(running.record, "known")
        assert known["vector"].tolist() == [1, 1, 1]
    stopped = unfinished(tmp_path / "idx")
    assert stopped is not None
    assert stopped.holder is None


def test_a_piece_that_was_damaged_is_made_again(tmp_path: Path):
    with begun(tmp_path / "idx") as store:
        put(store, 0, ["a", "b"])
        put(store, 1, ["c", "d"])
        [file] = (tmp_path / "idx" / "building").glob("piece-0000000001-*/pack.bin")
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.raises(Damaged):
            store.staging.open(1, "full")
        assert store.staging.drop_damaged() == [1]
        assert store.staging.numbers() == [0]


def test_a_record_that_was_damaged_is_not_trusted(tmp_path: Path):
    begun(tmp_path / "idx").close()
    path = tmp_path / "idx" / "building" / "job.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"numbers", b"letters"))
    with pytest.raises(Damaged, match="checksum does not fit"):
        unfinished(tmp_path / "idx")


def test_only_a_build_goes_on_in_a_folder_that_is_not_empty(tmp_path: Path):
    begun(tmp_path / "idx").close()
    with pytest.raises(AlreadyExists, match="a build that is not finished"):
        Store.create(tmp_path / "idx", {})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(AlreadyExists, match=r"it holds 'letter\.txt'"):
        Store.prepare(tmp_path / "mine", {})
    (tmp_path / "lost" / "segments" / "seg-0000000001-00000000").mkdir(parents=True)
    with pytest.raises(AlreadyExists, match="it holds 'segments'"):
        Store.prepare(tmp_path / "lost", {})


def test_what_was_prepared_and_not_begun_leaves_nothing_behind(tmp_path: Path):
    with Store.prepare(tmp_path / "new" / "idx", {}) as store:
        store.discard()
    assert not (tmp_path / "new").exists()
