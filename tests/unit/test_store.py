"""What a store promises its caller, shown on small indexes."""

import errno
import json
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from colreduce.errors import (
    AlreadyExists,
    BadInput,
    Damaged,
    DiskFull,
    Locked,
    NewerFormat,
    NotAnIndex,
    ReadOnly,
    ShapeMismatch,
)
from colreduce.store import Store, fs, layout, manifest, records


@pytest.fixture(autouse=True)
def disarmed():
    yield
    fs.SEAM.arm()


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "index", {"recipe": "pca(dim=2) | ward"}) as made:
        yield made


def put(store, ids, value=0.0, **added):
    """Commit one segment that holds the value once for every id."""
    writer = store.begin()
    writer.add(ids, **added)
    writer.append("values", np.full((len(ids), 2), value, np.float32), per="document")
    return store.commit([writer])


def delete(store, ids):
    writer = store.begin()
    writer.delete(ids)
    return store.commit([writer])


def contents(store):
    """Return id -> value of the live documents."""
    snapshot = store.snapshot()
    found = {}
    for segment in snapshot.segments:
        for row in np.flatnonzero(segment.live):
            found[segment.ids[int(row)]] = float(segment.arrays["values"][row, 0])
    assert len(found) == snapshot.count
    return found


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_new_index_is_empty_and_keeps_its_configuration(store):
    snapshot = store.snapshot()
    assert (snapshot.generation, snapshot.count, snapshot.segments) == (1, 0, ())
    assert Store.open(store.path).config == {"recipe": "pca(dim=2) | ward"}


def test_what_was_committed_is_read_back_from_the_disk(store):
    writer = store.begin()
    writer.add(["a", "b"], [{"year": 1999}, {}], ["first text", None])
    writer.append("tokens", np.arange(6, dtype=np.float16).reshape(3, 2))
    writer.append("tokens", np.arange(4, dtype=np.float16).reshape(2, 2))
    writer.append("nothing", np.empty((0, 7), np.int8))
    writer.blob("ann.faiss", lambda stream: stream.write(b"some bytes"))
    writer.note(dim=2, reducer="ward")
    assert store.commit([writer]) == 2
    for reader in (store, Store.open(store.path)):
        (segment,) = reader.snapshot().segments
        assert list(segment.ids) == ["a", "b"]
        assert (segment.ids[-1], segment.ids[0:2]) == ("b", ["a", "b"])
        assert (segment.metadata(0), segment.metadata(1)) == ({"year": 1999}, {})
        assert (segment.text(0), segment.text(1)) == ("first text", None)
        assert segment.arrays["tokens"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
        assert segment.arrays["nothing"].shape == (0, 7)
        assert segment.arrays["nothing"].dtype == np.int8
        assert segment.buffers["ann.faiss"].tobytes() == b"some bytes"
        assert segment.info == {"dim": 2, "reducer": "ward"}
        assert segment.bytes["tokens.bin"] == 32  # 20, and 12 up to where the next part begins
        assert segment.live.tolist() == [True, True]
        with pytest.raises(ValueError, match="read-only"):
            segment.arrays["tokens"][0] = 9


def test_the_bytes_on_disk_are_the_bytes_reported(store):
    put(store, ["a", "b"], texts=["one", "two"])
    (segment,) = store.snapshot().segments
    folder = store.path / "segments" / segment.name
    sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
    assert sorted(sizes) == ["pack.bin", "segment.json"]
    assert sum(sizes.values()) == sum(segment.bytes.values())
    assert not any(p.stat().st_mode & 0o222 for p in folder.iterdir())


def test_what_is_too_long_for_the_pack_has_a_file_of_its_own(store, monkeypatch):
    monkeypatch.setattr(layout, "PACKED", 100)
    writer = store.begin()
    writer.add(["a", "b"], texts=["x", "y"])
    writer.append("short", np.arange(25, dtype=np.int32))
    writer.append("long", np.arange(20, dtype=np.int32))
    writer.append("long", np.arange(20, 26, dtype=np.int32))
    writer.blob("ann.faiss", lambda stream: [stream.write(bytes([n])) for n in range(101)])
    store.commit([writer])
    for reader in (store, Store.open(store.path)):
        (segment,) = reader.snapshot().segments
        assert segment.arrays["short"].tolist() == list(range(25))
        assert segment.arrays["long"].tolist() == list(range(26))
        assert segment.buffers["ann.faiss"].tolist() == list(range(101))
        assert segment.text(1) == "y"
    folder = store.path / "segments" / segment.name
    files = ["ann.faiss", "docs.bin", "long.bin", "pack.bin", "segment.json"]
    assert sorted(p.name for p in folder.iterdir()) == files


def test_an_array_longer_than_the_mapping_threshold_reads_the_same(store):
    rows = np.arange(layout.SMALL // 4 + 100, dtype=np.int32)
    writer = store.begin()
    writer.add(["a"])
    for part in np.array_split(rows, 7):
        writer.append("long", part)
    store.commit([writer])
    (segment,) = Store.open(store.path).snapshot().segments
    assert np.array_equal(segment.arrays["long"], rows)


def test_putting_an_id_again_replaces_it(store):
    put(store, ["a", "b"], 1)
    put(store, ["b", "c"], 2)
    assert contents(store) == {"a": 1, "b": 2, "c": 2}
    assert contents(Store.open(store.path)) == {"a": 1, "b": 2, "c": 2}
    assert store.snapshot().find("b") == (1, 0)
    assert store.snapshot().find("z") is None


def test_within_one_commit_the_later_record_wins(store):
    writer = store.begin()
    writer.add(["a", "b", "a"])
    writer.delete(["b"])
    writer.append("values", np.array([[1, 1], [2, 2], [3, 3]], np.float32))
    store.commit([writer])
    assert contents(store) == {"a": 3}
    assert contents(Store.open(store.path)) == {"a": 3}


def test_a_deleted_document_is_gone_until_it_is_put_again(store):
    put(store, ["a", "b"], 1)
    delete(store, ["a", "never there"])
    assert contents(store) == {"b": 1}
    assert store.snapshot().find("a") is None
    assert contents(Store.open(store.path)) == {"b": 1}
    put(store, ["a"], 2)
    assert contents(Store.open(store.path)) == {"a": 2, "b": 1}


def test_a_snapshot_never_changes(store):
    put(store, ["a", "b"], 1)
    before = store.snapshot()
    delete(store, ["a"])
    assert (before.count, before.find("a")) == (2, (0, 0))
    assert (store.snapshot().count, store.snapshot().find("a")) == (1, None)


def test_two_segments_are_published_by_one_commit(store):
    writers = [store.begin(), store.begin()]
    for number, writer in enumerate(writers):
        writer.add(["same", f"own-{number}"])
        writer.append("values", np.full((2, 2), number, np.float32))
    assert store.commit(writers) == 2
    assert contents(store) == {"same": 1, "own-0": 0, "own-1": 1}
    assert contents(Store.open(store.path)) == contents(store)


def test_a_commit_of_nothing_makes_no_generation(store):
    assert store.commit() == 1
    assert store.commit([store.begin()]) == 1


def test_models_and_notes_are_kept_by_later_commits(store):
    planes = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    store.commit(
        models={"fde": {"planes": planes, "seed": np.int64(7)}}, notes={"ledger": {"x": 1}}
    )
    put(store, ["a"])
    store.commit(notes={"job": "done"})
    snapshot = Store.open(store.path).snapshot()
    assert np.array_equal(snapshot.models["fde"]["planes"], planes)
    assert snapshot.models["fde"]["seed"].shape == ()
    assert snapshot.notes == {"ledger": {"x": 1}, "job": "done"}


def test_an_equal_model_is_stored_once(store):
    model = {"mean": np.ones(3, np.float32)}
    store.commit(models={"one": model})
    store.commit(models={"two": model})
    assert len(list((store.path / "models").iterdir())) == 1
    assert Store.open(store.path).snapshot().models["two"]["mean"].tolist() == [1, 1, 1]


def test_a_reader_follows_the_writer_and_reuses_what_it_has_open(store):
    put(store, ["a"], 1)
    reader = Store.open(store.path)
    first = reader.snapshot().segments[0].data
    put(store, ["b"], 2)
    assert contents(reader) == {"a": 1}
    assert reader.refresh().count == 2
    assert contents(reader) == {"a": 1, "b": 2}
    assert reader.snapshot().segments[0].data is first
    assert reader.refresh() is reader.snapshot()


def test_a_second_writer_is_told_who_holds_the_lock(store):
    with pytest.raises(Locked, match=str(os.getpid())):
        Store.open(store.path, write=True)
    reader = Store.open(store.path)
    with pytest.raises(Locked):
        reader.acquire()
    store.close()
    reader.acquire()
    assert put(reader, ["a"]) == 2


def test_a_reader_cannot_write(store):
    reader = Store.open(store.path)
    with pytest.raises(ReadOnly, match="write=True"):
        reader.begin()
    assert not reader.writable


def test_a_reader_changes_nothing_on_the_disk(store):
    put(store, ["a"])
    (store.path / ".tmp-left-over").write_bytes(b"x")
    before = tree(store.path)
    Store.open(store.path).close()
    assert tree(store.path) == before


def test_reading_works_without_the_catalogue_and_with_a_broken_one(store):
    put(store, ["a"], 3)
    (store.path / "catalogue.sqlite3").write_bytes(b"not a database")
    assert contents(Store.open(store.path)) == {"a": 3}
    (store.path / "catalogue.sqlite3").unlink()
    assert contents(Store.open(store.path)) == {"a": 3}


def test_create_refuses_a_folder_that_is_in_use(tmp_path):
    Store.create(tmp_path / "index", {}).close()
    with pytest.raises(AlreadyExists, match="already holds"):
        Store.create(tmp_path / "index", {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(AlreadyExists, match=r"thesis\.tex"):
        Store.create(tmp_path / "other", {})
    with pytest.raises(AlreadyExists, match="is a file"):
        Store.create(tmp_path / "other" / "thesis.tex", {})


def test_create_makes_missing_folders_and_accepts_an_empty_one(tmp_path):
    Store.create(tmp_path / "x" / "y", {}).close()
    (tmp_path / "empty").mkdir()
    Store.create(tmp_path / "empty", {}).close()
    assert Store.open(tmp_path / "x" / "y").snapshot().count == 0


def test_a_failed_create_leaves_nothing_behind(tmp_path):
    with pytest.raises(BadInput, match="configuration"):
        Store.create(tmp_path / "index", {"f": print})
    number = 0
    while True:
        number += 1
        fs.SEAM.arm(fail_at=f"{number}:ENOSPC")
        try:
            Store.create(tmp_path / "new" / "index", {}).close()
        except (DiskFull, ReadOnly, OSError):
            assert not (tmp_path / "new" / "index").exists(), number
            continue
        break
    assert number > 8


def test_create_goes_on_where_a_killed_one_stopped(tmp_path):
    deaths = 0
    for number in range(1, 40):
        target = tmp_path / str(number)
        child = os.fork()
        if child == 0:
            fs.SEAM.arm(crash_at=str(number))
            Store.create(target, {"k": 1}).close()
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if died == 0:
            break
        deaths += 1
        assert died == -9
        with suppress(AlreadyExists):  # it may have died after the commit point
            Store.create(target, {"k": 1}).close()
        assert Store.open(target, write=True).config == {"k": 1}
    assert deaths >= 8


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_opening_what_is_no_index_says_so(tmp_path, kind):
    path = tmp_path / "here"
    if kind == "empty":
        path.mkdir()
    elif kind == "a file":
        path.write_text("x")
    for write in (False, True):
        with pytest.raises(NotAnIndex, match="no colreduce index"):
            Store.open(path, write=write)
    assert kind != "empty" or list(path.iterdir()) == []


@pytest.mark.parametrize("identifier", ["", "x" * 257, "a\nb", "a\0", "\ud800", "ab\u202e", 7])
def test_an_id_that_cannot_be_kept_is_refused(store, identifier):
    with pytest.raises(BadInput) as refused:
        store.begin().add([identifier])
    assert refused.value.field == "id"


def test_any_other_unicode_id_is_kept(store):
    ids = ["é", "日本", "שלום", "a b", "x" * 256, "../../etc", "😀"]
    put(store, ids, 1)
    assert list(Store.open(store.path).snapshot().segments[0].ids) == ids


@pytest.mark.parametrize(
    "metadata", [{"x": "y" * 16384}, {"x": float("nan")}, {"x": object()}, ["no mapping"]]
)
def test_metadata_that_cannot_be_kept_is_refused(store, metadata):
    with pytest.raises(BadInput) as refused:
        store.begin().add(["a"], [metadata])
    assert refused.value.field == "metadata"


def test_metadata_a_thousand_levels_deep_is_refused_or_kept_but_never_crashes(store):
    deep = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(BadInput):
        store.begin().add(["a"], [deep])


def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(store):
    before = tree(store.path)
    writer = store.begin()
    writer.add(["a", "b"])
    writer.append("values", np.zeros((1, 2), np.float32), per="document")
    with pytest.raises(ShapeMismatch, match="1 rows for 2 documents"):
        store.commit([writer])
    writer = store.begin()
    writer.append("values", np.zeros((1, 2), np.float32))
    for wrong in (np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float64)):
        with pytest.raises(ShapeMismatch, match="float32"):
            writer.append("values", wrong)
    with pytest.raises(BadInput, match="already has"):
        writer.blob("values.bin", lambda stream: None)
    with pytest.raises(BadInput, match="cannot name"):
        writer.append("../up", np.zeros(1))
    writer.abort()
    assert tree(store.path) == before
    with pytest.raises(BadInput, match="committed or aborted"):
        writer.add(["a"])


def test_a_writer_left_by_an_error_leaves_nothing(store):
    def fail(stream):
        stream.write(b"half")
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), store.begin() as writer:
        writer.blob("ann.faiss", fail)
    with pytest.raises(ZeroDivisionError), store.begin() as writer:
        writer.append("values", np.full((1, 2), 1 // 0))
    assert list((store.path / "segments").iterdir()) == []


def test_a_disk_that_is_full_at_any_operation_changes_nothing_and_heals(store):
    put(store, ["a"], 1)
    generation, failures = 2, 0
    for number in range(1, 60):
        for error in ("ENOSPC", "EDQUOT"):
            fs.SEAM.arm(fail_at=f"{number}:{error}")
            try:
                generation = put(store, ["b"], generation)
            except DiskFull:
                failures += 1
                assert store.snapshot().generation == generation
                assert contents(Store.open(store.path))["a"] == 1
            except ReadOnly:  # an fsync failed: what the disk holds is not known
                failures += 1
                fs.SEAM.arm()
                store.close()
                store = Store.open(store.path, write=True)
                assert store.snapshot().generation in (generation, generation + 1)
                generation = store.snapshot().generation
    fs.SEAM.arm()
    assert failures > 20
    assert put(store, ["c"], 5) == generation + 1
    assert contents(Store.open(store.path))["c"] == 5


def test_a_failed_fsync_ends_writing_until_the_index_is_reopened(store):
    put(store, ["a"], 1)
    fs.SEAM.arm()
    put(store, ["a"], 2)
    with fs.recording() as trace:
        put(store, ["a"], 3)
    first = next(n for n, event in enumerate(trace, 1) if event[0] == "fsync")
    fs.SEAM.arm(fail_at=f"{first}:EIO")
    with pytest.raises(ReadOnly, match="reopen"):
        put(store, ["a"], 4)
    fs.SEAM.arm()
    with pytest.raises(ReadOnly):
        store.begin()
    assert not store.writable
    assert contents(store) == {"a": 3}
    store.close()
    with Store.open(store.path, write=True) as again:
        assert contents(again) == {"a": 3}
        put(again, ["a"], 4)


def test_a_write_that_is_cut_short_is_completed(store):
    for number in range(1, 40):
        fs.SEAM.arm(fail_at=f"{number}:SHORT")
        put(store, ["a"], number)
    assert contents(Store.open(store.path)) == {"a": 39}


def test_damage_names_the_file_and_nothing_is_served(store):
    put(store, ["a", "b"], 1, texts=["x", "y"])
    store.commit(models={"m": {"w": np.arange(9.0)}})
    store.close()
    for path in sorted(p for p in store.path.rglob("*") if p.is_file()):
        older = {"manifest-0000000001.json", "manifest-0000000002.json"}
        if path.name in {"LOCK", "BALLAST"} | older or path.name.startswith("catalogue"):
            continue
        good = path.read_bytes()
        path.chmod(0o644)
        for bad in (good[:-1], good + b"x", bytes([good[0] ^ 1]) + good[1:], b""):
            path.write_bytes(bad)
            for write in (False, True):
                with pytest.raises(Damaged, match=path.name):
                    Store.open(store.path, write=write)
        path.unlink()
        with pytest.raises(Damaged):
            Store.open(store.path, write=True)
        path.symlink_to(__file__)
        with pytest.raises(Damaged):
            Store.open(store.path)
        path.unlink()
        path.write_bytes(good)
    assert contents(Store.open(store.path, write=True)) == {"a": 1, "b": 1}


def test_losing_the_newest_manifest_is_noticed_by_readers_and_writers(store):
    for value in range(5):
        put(store, ["a"], value)
    store.close()
    (store.path / "manifest-0000000006.json").unlink()
    for write in (False, True):
        with pytest.raises(Damaged, match="missing"):
            Store.open(store.path, write=write)


def test_a_catalogue_ahead_of_the_manifest_means_a_manifest_was_lost(store):
    put(store, ["a"], 1)
    store.close()
    (store.path / "manifest-0000000002.json").unlink()
    with pytest.raises(Damaged, match="a manifest was lost"):
        Store.open(store.path, write=True)
    (store.path / "catalogue.sqlite3").unlink()
    with Store.open(store.path, write=True) as again:
        assert contents(again) == {}
    kept = list((store.path / "quarantine").iterdir())
    assert [path.name[:14] for path in kept] == ["seg-0000000002"]


def test_a_catalogue_whose_columns_are_damaged_is_made_again(store):
    put(store, ["a"], 1, metadata=[{"year": 1999}])
    store.close()
    file = store.path / "catalogue.sqlite3"
    good = file.read_bytes()
    assert b"n_tokens INTEGER," in good
    file.write_bytes(good.replace(b"n_tokens INTEGER,", b"n_tokens INTEGERl"))
    Store.open(store.path, write=True).close()
    assert b"n_tokens INTEGER," in file.read_bytes()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT id, meta FROM docs").fetchall() == [("a", '{"year":1999}')]


def test_a_segment_two_generations_ahead_means_a_manifest_was_lost(store):
    put(store, ["a"], 1)
    put(store, ["b"], 1)
    store.close()
    for number in (2, 3):
        (store.path / f"manifest-000000000{number}.json").unlink()
    (store.path / "catalogue.sqlite3").unlink()
    for write in (False, True):
        with pytest.raises(Damaged, match="a manifest was lost"):
            Store.open(store.path, write=write)


def test_a_newer_format_is_refused_and_left_untouched(store):
    store.close()
    path = store.path / "manifest-0000000001.json"
    body = json.loads(path.read_bytes().split(b"\n#sha256=")[0])
    for change in ({"format": layout.FORMAT + 1}, {"a_field_of_the_future": 1}):
        encoded = layout.to_json({**body, **change})
        path.chmod(0o644)
        path.write_bytes(encoded + b"\n#sha256=" + fs.hashlib.sha256(encoded).hexdigest().encode())
        before = tree(store.path)
        for write in (False, True):
            with pytest.raises(NewerFormat, match="newer colreduce"):
                Store.open(store.path, write=write)
        assert tree(store.path) == before


def test_a_failed_open_gives_the_lock_back(store):
    put(store, ["a"])
    store.close()
    victim = next((store.path / "segments").rglob("pack.bin"))
    good = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(b"x" * len(good))
    with pytest.raises(Damaged):
        Store.open(store.path, write=True)
    victim.write_bytes(good)
    Store.open(store.path, write=True).close()


def test_leftovers_are_cleared_by_the_next_writer(store):
    put(store, ["a"], 1)
    store.close()
    (store.path / ".tmp-manifest-1").write_bytes(b"half")
    (store.path / "segments" / ".tmp-1-1").mkdir()
    (store.path / "segments" / ".tmp-1-1" / "x").write_bytes(b"half")
    (store.path / "segments" / "seg-0000000002-00000000").mkdir()
    (store.path / "notes of a user.txt").write_bytes(b"mine")
    with Store.open(store.path, write=True) as again:
        assert contents(again) == {"a": 1}
    left = {path.name[:14] for path in (store.path / "segments").iterdir()}
    assert left == {"seg-0000000002"}
    assert len(list((store.path / "segments").iterdir())) == 1
    assert not (store.path / ".tmp-manifest-1").exists()
    assert (store.path / "notes of a user.txt").exists()


def test_three_manifests_are_kept(store):
    for value in range(6):
        put(store, ["a"], value)
    assert manifest.generations(store.path) == [5, 6, 7]


def test_ids_that_share_a_hash_are_told_apart(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "id_hash", lambda encoded: len(encoded))
    with Store.create(tmp_path / "index", {}) as store:
        put(store, ["a", "b", "c"], 1)
        put(store, ["b", "d"], 2)
        delete(store, ["a"])
        expected = {"b": 2, "c": 1, "d": 2}
        assert contents(store) == contents(Store.open(tmp_path / "index")) == expected
        assert [store.snapshot().find(name) for name in "abcd"] == [None, (1, 0), (0, 2), (1, 1)]


def test_checking_sizes_only_still_checks_what_is_parsed(store, monkeypatch):
    monkeypatch.setattr(layout, "PACKED", 0)
    put(store, ["a"], 1)
    monkeypatch.setattr(layout, "PACKED", 1000)
    put(store, ["b"], 1)
    store.close()
    for name, noticed in (("docs.bin", True), ("values.bin", False), ("pack.bin", True)):
        path = max((store.path / "segments").rglob(name), key=lambda file: file.stat().st_size)
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        if noticed:
            with pytest.raises(Damaged, match=name):
                Store.open(store.path, verify="sizes")
        else:
            assert Store.open(store.path, verify="sizes").snapshot().count == 2
        with pytest.raises(Damaged, match=name):
            Store.open(store.path, verify="full")
        path.write_bytes(good)


def test_a_forked_child_neither_writes_nor_keeps_the_lock(store):
    code = f"""
import os, sys, time
from contextlib import closing, suppress
from pathlib import Path
from colreduce.errors import ReadOnly
from colreduce.store import Store
store = Store.open(Path({str(store.path)!r}), write=True)
child = os.fork()
if child == 0:
    try:
        store.begin()
    except ReadOnly:
        os.write(1, f"{{os.getpid()}}\\n".encode())
        time.sleep(60)
    os._exit(1)
os._exit(0)
"""
    store.close()
    child = _fork_and_leave(code)
    try:
        Store.open(store.path, write=True).close()
        assert os.path.exists(f"/proc/{child}")
    finally:
        os.kill(child, 9)


def _fork_and_leave(code):
    """Run the program until it says its child's number; the child lives on."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.wait()
        parent.stdout.close()
    return child


def test_running_out_of_file_descriptors_is_not_taken_for_damage(store):
    put(store, ["a"], 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] < used:  # fill the gaps, so that the limit is what is left
        held.append(os.open(os.devnull, os.O_RDONLY))
    used = held[-1] + 1
    outcomes = set()
    for spare in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, limits[1]))
        try:
            Store.open(store.path).close()
            outcomes.add("opened")
        except Damaged:
            outcomes.add("damaged")
        except OSError as problem:
            outcomes.add(problem.errno)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for fd in held:
        os.close(fd)
    assert outcomes == {errno.EMFILE, "opened"}


def test_open_files_do_not_grow_with_commits_and_compactions(store):
    put(store, ["a"], 1)
    before = len(os.listdir("/proc/self/fd"))
    for value in range(40):
        put(store, ["a", "b"], value)
        if value % 10 == 9:
            store.compact(purge=True)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_paths_may_be_given_as_strings(tmp_path):
    Store.create(str(tmp_path / "index"), {}).close()
    assert Store.open(str(tmp_path / "index")).path == Path(tmp_path / "index")
