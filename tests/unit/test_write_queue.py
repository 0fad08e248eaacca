"""Changes from many threads are committed together, in order, and each is told how it went."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from colreduce import Index
from colreduce.errors import BadInput, DiskFull, Overloaded, ReadOnly, ShapeMismatch
from colreduce.index import WriteQueue, queue
from colreduce.store import fs
from tests.unit.test_index import DIM

RECIPE = "fp32 | mean"


@pytest.fixture
def index(tmp_path):
    with Index.create(tmp_path / "idx", recipe=RECIPE, dim=DIM) as made:
        yield made


@pytest.fixture
def changes(index):
    with WriteQueue(index) as made:
        yield made


@contextmanager
def busy(index, changes):
    """Keep the queue's thread busy meanwhile: the first documents of an index come alone."""
    with index.batch() as batch:
        batch.add(["first"], embeddings=[vectors(1)])
        waiting = changes.submit_upsert(["second"], embeddings=[vectors(2)])
        while changes._waiting:
            pass
        yield
        assert not waiting.done()
    waiting.result(5)


def vectors(value):
    return torch.full((4, DIM), float(value))


def stored(index, one):
    [document] = index.get([one], vectors=True)
    return round(float(document.vectors[0, 0]))


def test_what_was_acknowledged_is_on_the_disk_and_seen(index, changes):
    done = changes.submit_upsert(["new"], embeddings=[vectors(1)], metadata=[{"n": 1}]).result(5)
    assert (done.existing, done.generation) == (0, index.generation)
    assert index.get(["new"])[0].metadata == {"n": 1}
    with Index.open(index.path) as other:
        assert "new" in other
    again = changes.submit_upsert(["new"], embeddings=[vectors(3)]).result(5)
    assert (again.existing, stored(index, "new")) == (1, 3)
    assert changes.submit_delete(["new", "never"]).result(5).existing == 1
    assert "new" not in index


def test_what_waits_is_committed_together(index, changes):
    with busy(index, changes):
        some = [
            changes.submit_upsert([f"d{n}"], embeddings=[vectors(n)], metadata=[{"n": n}])
            for n in range(1, 40)
        ]
    assert {one.result(5).generation for one in some} == {index.generation}
    assert [index.get([f"d{n}"])[0].metadata["n"] for n in range(1, 40)] == list(range(1, 40))
    assert [stored(index, f"d{n}") for n in range(1, 40)] == list(range(1, 40))
    assert len(index.view.snapshot.segments) == 3


def test_the_last_change_of_an_id_wins_as_if_they_had_come_one_by_one(index, changes):
    with busy(index, changes):
        told = [
            changes.submit_upsert(["a", "b"], embeddings=[vectors(1), vectors(2)]),
            changes.submit_delete(["a"]),
            changes.submit_upsert(["b"], embeddings=[vectors(5)]),
            changes.submit_delete(["c"]),
            changes.submit_upsert(["c"], embeddings=[vectors(6)]),
            changes.submit_upsert(["a"], embeddings=[vectors(7)]),
            changes.submit_delete(["b"]),
        ]
    assert [one.result(5).existing for one in told] == [0, 1, 1, 0, 0, 0, 1]
    assert (stored(index, "a"), stored(index, "c")) == (7, 6)
    assert "b" not in index
    assert len(index) == 4


def test_a_change_that_cannot_be_stored_fails_alone(index, changes):
    with pytest.raises(ShapeMismatch):
        changes.submit_upsert(["wide"], embeddings=[torch.ones(2, DIM + 1)])
    with pytest.raises(BadInput):
        changes.submit_upsert(["same", "same"], embeddings=[vectors(1), vectors(2)])
    with busy(index, changes):
        good = changes.submit_upsert(["good"], embeddings=[vectors(1)])
        bad = changes.submit_upsert(["bad"], embeddings=[vectors(1)], metadata=[{"x": {1, 2}}])
        after = changes.submit_upsert(["after"], embeddings=[vectors(2)])
    with pytest.raises(BadInput, match="'bad' cannot be written as JSON"):
        bad.result(5)
    assert good.result(5).generation < after.result(5).generation
    assert sorted(one for one in ("good", "bad", "after") if one in index) == ["after", "good"]


def test_on_a_full_disk_deletions_go_through_and_upserts_are_told(index, changes):
    index.add(["old", "kept"], embeddings=[vectors(1), vectors(2)])
    fs.SEAM.arm(fail_at="1+:ENOSPC")
    try:
        put = changes.submit_upsert(["new"], embeddings=[vectors(3)])
        with pytest.raises(DiskFull):
            put.result(5)
    finally:
        fs.SEAM.arm()
    assert changes.submit_delete(["old"]).result(5).existing == 1
    assert changes.submit_upsert(["new"], embeddings=[vectors(3)]).result(5)
    assert len(index) == 2


def test_after_a_failed_fsync_every_change_is_refused(index, changes):
    index.add(["old"], embeddings=[vectors(1)])
    fs.SEAM.arm(fail_at="1+:EIO")
    try:
        with pytest.raises(ReadOnly):
            changes.submit_upsert(["new"], embeddings=[vectors(3)]).result(5)
    finally:
        fs.SEAM.arm()
    with pytest.raises(ReadOnly):
        changes.submit_delete(["old"]).result(5)
    assert index.search(vectors(1), k=1)[0].id == "old"


def test_too_much_that_waits_is_turned_away(index, changes):
    with busy(index, changes):
        ids = [f"d{n}" for n in range(queue.WAITING_DOCUMENTS)]
        full = changes.submit_delete(ids)
        with pytest.raises(Overloaded, match=r"4,096 changes wait"):
            changes.submit_delete(["one more"])
    full.result(5)
    changes.submit_delete(["one more"]).result(5)


def test_a_change_that_nobody_wants_any_more_is_not_written(index, changes):
    with busy(index, changes):
        dropped = changes.submit_upsert(["dropped"], embeddings=[vectors(1)])
        kept = changes.submit_upsert(["kept"], embeddings=[vectors(2)])
        assert dropped.cancel()
    kept.result(5)
    assert ("dropped" in index, "kept" in index) == (False, True)


def test_closing_writes_what_waits_and_takes_nothing_more(index, changes):
    futures = [changes.submit_upsert([f"d{n}"], embeddings=[vectors(n + 1)]) for n in range(20)]
    changes.close()
    assert all(one.done() for one in futures)
    assert len(index) == 20
    with pytest.raises(BadInput, match="closed"):
        changes.submit_delete(["d1"])


def test_many_threads_each_see_what_they_were_told_is_there(index, changes):
    def write(worker):
        for n in range(10):
            one = f"w{worker}-{n}"
            changes.submit_upsert([one], embeddings=[vectors(n + 1)]).result(20)
            assert stored(index, one) == n + 1
            if n % 3 == 0:
                changes.submit_delete([one]).result(20)
                assert one not in index

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(index) == 8 * 6
