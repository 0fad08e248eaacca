"""Compaction moves what is live, keeps what still hides something, and loses nothing."""

import threading

import numpy as np
import pytest

from colreduce.errors import BadInput, DiskFull, ReadOnly
from colreduce.store import Store, fs, verify
from colreduce.store import manifest as manifests


@pytest.fixture(autouse=True)
def disarmed():
    yield
    fs.SEAM.arm()


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "index", {}) as made:
        yield made


def put(store, ids, value):
    """Commit documents whose token counts, tokens, metadata and texts all tell the value."""
    writer = store.begin()
    writer.add(ids, [{"value": value}] * len(ids), [f"text {value}"] * len(ids))
    lengths = [1 + (value + n) % 3 for n in range(len(ids))]
    writer.append("lengths", np.array(lengths, np.uint16), per="document")
    writer.append("tokens", np.full((sum(lengths), 2), value, np.float16), per="lengths")
    writer.note(width=2, value=value)
    store.commit([writer])
    return dict(zip(ids, lengths, strict=True))


def delete(store, ids):
    writer = store.begin()
    writer.delete(ids)
    store.commit([writer])


def contents(store):
    found = {}
    for segment in store.snapshot().segments:
        ends = np.cumsum(segment.arrays["lengths"]) if segment.rows else []
        for row in map(int, np.flatnonzero(segment.live)):
            length = int(segment.arrays["lengths"][row])
            tokens = segment.arrays["tokens"][ends[row] - length : ends[row]]
            value = segment.metadata(row)["value"]
            assert (tokens == value).all()
            assert tokens.shape == (length, 2)
            assert segment.text(row) == f"text {value}"
            found[segment.ids[row]] = (value, length)
    return found


def test_compaction_changes_the_files_and_nothing_else(store):
    put(store, ["a", "b", "c", "d"], 1)
    put(store, ["b", "e"], 2)
    delete(store, ["c", "e"])
    before = contents(store)
    store.compact()
    (segment,) = store.snapshot().segments
    assert contents(store) == before == contents(Store.open(store.path))
    assert sorted(before) == ["a", "b", "d"]
    assert segment.live.all()
    assert segment.data.records.count == 3  # no tombstone was worth keeping
    assert dict(segment.info) == {"width": 2}
    assert verify(store.path).sound


def test_compacting_a_tidy_index_does_nothing(store):
    put(store, ["a", "b"], 1)
    assert store.compact() == store.snapshot().generation == 2


def test_a_deletion_outlives_a_compaction_that_leaves_out_the_deleted_record(store):
    put(store, ["a", "b"], 1)
    put(store, ["c"], 2)
    delete(store, ["a"])
    names = [segment.name for segment in store.snapshot().segments]
    store.compact(names[1:])
    assert sorted(contents(store)) == sorted(contents(Store.open(store.path))) == ["b", "c"]
    assert [s.data.records.count - s.rows for s in store.snapshot().segments] == [0, 1]
    store.compact()
    assert sorted(contents(Store.open(store.path))) == ["b", "c"]
    assert [s.data.records.count for s in store.snapshot().segments] == [2]


def test_a_document_put_again_after_its_deletion_survives_any_compaction(store):
    for chosen in (slice(0, 1), slice(1, 2), slice(1, 3), slice(0, 2), slice(0, None)):
        put(store, ["a"], 1)
        delete(store, ["a"])
        put(store, ["a"], 5)
        store.compact([s.name for s in store.snapshot().segments[chosen]])
        assert contents(Store.open(store.path))["a"][0] == 5


def test_what_happens_during_a_compaction_wins(store):
    put(store, ["a", "b", "c"], 1)
    put(store, ["d"], 1)

    def meanwhile(moved, writer):
        assert [rows.tolist() for _, rows in moved] == [[0, 1, 2], [0]]
        put(store, ["b"], 7)
        delete(store, ["c"])

    store.compact(rewrite=meanwhile)
    expected = {"a": 1, "b": 7, "d": 1}
    assert {k: v[0] for k, v in contents(store).items()} == expected
    assert {k: v[0] for k, v in contents(Store.open(store.path)).items()} == expected
    again = Store.open(store.path)
    for mine, theirs in zip(store.snapshot().segments, again.snapshot().segments, strict=True):
        assert mine.live.tolist() == theirs.live.tolist()


def test_an_index_whose_documents_are_all_deleted_compacts_to_nothing(store):
    put(store, ["a"], 1)
    delete(store, ["a"])
    store.compact()
    assert store.snapshot().segments == ()
    assert Store.open(store.path).snapshot().count == 0


def test_files_the_store_cannot_move_are_left_to_the_caller(store):
    for value in (1, 2):
        writer = store.begin()
        writer.add([f"doc-{value}"])
        writer.append("codes", np.full(3, value))
        writer.blob("ann.faiss", lambda stream, value=value: stream.write(b"%d" % value))
        store.commit([writer])
    with pytest.raises(BadInput, match=r"cannot move ann\.faiss, codes"):
        store.compact()

    def rewrite(moved, writer):
        for segment, _ in moved:
            writer.append("codes", segment.arrays["codes"])
        whole = b"".join(segment.buffers["ann.faiss"].tobytes() for segment, _ in moved)
        writer.blob("ann.faiss", lambda stream: stream.write(whole))

    store.compact(rewrite=rewrite)
    (segment,) = store.snapshot().segments
    assert segment.buffers["ann.faiss"].tobytes() == b"12"
    assert segment.arrays["codes"].tolist() == [1, 1, 1, 2, 2, 2]


def test_old_files_stay_while_something_shows_them_and_go_afterwards(store, monkeypatch):
    monkeypatch.setattr("colreduce.store.layout.GRACE_SECONDS", 0.0)
    put(store, ["a"], 1)
    put(store, ["a"], 2)
    held = store.snapshot()
    store.compact()
    for value in range(4):
        put(store, [f"x{value}"], value)
    old = {segment.name for segment in held.segments}
    assert old <= {path.name for path in (store.path / "segments").iterdir()}
    del held
    put(store, ["y"], 1)
    assert not old & {path.name for path in (store.path / "segments").iterdir()}


def test_no_byte_of_what_was_deleted_is_left_after_a_purge(store):
    ids = [f"doc-{n:03d}" for n in range(60)]
    for n, name in enumerate(ids):
        writer = store.begin()
        writer.add([name], [{"secret": f"metadata-of-{n:03d}"}])
        writer.append("codes", np.frombuffer(f"bytes-of-{n:03d}".encode(), np.uint8), per=None)
        writer.abort() if n == 7 else store.commit([writer])
    delete(store, ids[:30])

    def rewrite(moved, writer):
        for segment, _ in moved:
            writer.append("codes", segment.arrays["codes"])

    store.compact(purge=True, rewrite=rewrite)
    assert store.snapshot().count == 30
    assert manifests.generations(store.path) == [store.snapshot().generation]
    kept = b"\n".join(p.read_bytes() for p in store.path.rglob("*") if p.is_file())
    for n in range(60):
        for pattern in (f"doc-{n:03d}", f"metadata-of-{n:03d}", f"bytes-of-{n:03d}"):
            assert (pattern.encode() in kept) == (n >= 30), pattern
    assert verify(store.path).sound
    assert Store.open(store.path).snapshot().count == 30


def test_a_purge_empties_the_quarantine(store):
    put(store, ["a"], 1)
    (store.path / "quarantine").mkdir()
    (store.path / "quarantine" / "seg-0000000009-00000000").mkdir()
    store.compact(purge=True)
    assert not (store.path / "quarantine").exists()
    assert contents(Store.open(store.path)) == {"a": (1, 2)}


def test_too_many_or_too_dead_segments_are_due(store):
    put(store, [f"doc-{n}" for n in range(10)], 1)
    assert store.due() == []
    delete(store, ["doc-1", "doc-2", "doc-3"])
    assert store.due() == [segment.name for segment in store.snapshot().segments]
    store.compact(store.due())
    for n in range(40):
        put(store, [f"more-{n}"], n)
    assert len(store.due()) == 41 - 16
    before = contents(store)
    store.compact(store.due())
    assert len(store.snapshot().segments) == 17
    assert contents(Store.open(store.path)) == before


def test_many_readers_and_a_writer_meanwhile(store):
    put(store, ["a", "b"], 0)
    stop, mixed, seen = threading.Event(), [], set()

    def read():
        reader = Store.open(store.path)
        last = 0
        while not stop.is_set():
            snapshot = reader.refresh()
            values = {s.metadata(int(r))["value"] for s in snapshot.segments
                      for r in np.flatnonzero(s.live)}  # fmt: skip
            if len(values) != 1 or snapshot.generation < last:
                mixed.append((snapshot.generation, values))
            last = snapshot.generation
            seen.add(last)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for value in range(1, 30):
        put(store, ["a", "b"], value)
        if value % 7 == 0:
            store.compact(purge=value % 2 == 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert mixed == []
    assert len(seen) > 3


def test_a_full_disk_gives_up_its_ballast_for_a_deletion_and_for_a_compaction(store):
    put(store, ["a", "b"], 1)
    ballast = store.path / "BALLAST"
    assert ballast.stat().st_size == 1 << 20
    fs.SEAM.arm(fail_at="1:ENOSPC")
    delete(store, ["a"])
    assert not ballast.exists()
    fs.SEAM.arm()
    store.close()
    store = Store.open(store.path, write=True)
    assert ballast.exists()
    fs.SEAM.arm(fail_at="1:ENOSPC")
    store.compact()
    assert fs.SEAM.count > 10
    assert sorted(contents(Store.open(store.path))) == ["b"]
    ballast.unlink()
    fs.SEAM.arm(fail_at="1+:ENOSPC")
    with pytest.raises(DiskFull):
        put(store, ["c"], 1)


def test_a_disk_that_fills_during_a_compaction_costs_nothing(store):
    put(store, ["a", "b"], 1)
    failures = 0
    for number in range(1, 45):
        put(store, ["b"], number)
        (store.path / "BALLAST").unlink(missing_ok=True)
        fs.SEAM.arm(fail_at=f"{number}:ENOSPC")
        try:
            store.compact()
        except (DiskFull, ReadOnly):
            failures += 1
            if store.trouble:
                store.close()
                fs.SEAM.arm()
                store = Store.open(store.path, write=True)
        fs.SEAM.arm()
        assert {k: v[0] for k, v in contents(store).items()} == {"a": 1, "b": number}
        assert {k: v[0] for k, v in contents(Store.open(store.path)).items()} == {
            "a": 1,
            "b": number,
        }
    assert failures > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_that_follows_sees_the_rows_that_one_who_opens_sees(store, seed):
    draw = np.random.default_rng(seed)
    put(store, ["doc-0"], 0)
    readers = [Store.open(store.path) for _ in range(3)]
    for step in range(60):
        ids = [f"doc-{n}" for n in draw.choice(12, size=int(draw.choice([1, 1, 2, 6]))).tolist()]
        happens = draw.random()
        if happens < 0.55:
            put(store, sorted(set(ids)), step)
        elif happens < 0.8:
            delete(store, sorted(set(ids)))
        else:
            names = [segment.name for segment in store.snapshot().segments]
            some = draw.choice(len(names), size=min(3, len(names)), replace=False)
            store.compact([names[number] for number in sorted(some.tolist())])
        fresh = Store.open(store.path).snapshot()
        for pace, reader in enumerate(readers, 1):
            if step % pace == 0:  # the slower ones skip generations
                seen = reader.refresh()
                assert seen.generation == fresh.generation
                for one, other in zip(seen.segments, fresh.segments, strict=True):
                    assert np.array_equal(one.live, other.live), (step, pace, one.name)
    for reader in readers:
        reader.close()


def test_a_reader_sees_what_was_replaced_while_it_was_being_moved(store):
    put(store, ["a", "b"], 1)
    put(store, ["c"], 2)
    names = [segment.name for segment in store.snapshot().segments]
    with Store.open(store.path) as reader:

        def meanwhile(moved, writer):
            put(store, ["b"], 3)
            reader.refresh()

        store.compact(names, rewrite=meanwhile)
        reader.refresh()
        assert contents(reader) == contents(store) == contents(Store.open(store.path))
        assert contents(reader)["b"][0] == 3
