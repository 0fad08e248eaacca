"""A saved index is one generation, complete and checked, or it is nothing."""

import io
import tarfile

import numpy as np
import pytest

from colreduce.errors import AlreadyExists, BadData, BadInput, ColreduceError, Damaged
from colreduce.store import Store, manifest, verify


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "index", {"k": 1}) as made:
        for value in range(5):
            writer = made.begin()
            writer.add([f"doc-{value}", "last"], [{"value": value}] * 2, ["one", "two"])
            writer.append("values", np.full((2, 2), value, np.float32), per="document")
            made.commit([writer], models={"m": {"w": np.arange(value + 1.0)}})
        yield made


def test_a_restored_index_is_the_saved_one(store, tmp_path):
    generation = store.save_to(tmp_path / "copy.tar")
    with Store.restore(tmp_path / "copy.tar", tmp_path / "new" / "index") as again:
        assert again.snapshot().generation == generation == 6
        assert again.snapshot().digest == store.snapshot().digest
        assert again.snapshot().config == {"k": 1}
        assert again.snapshot().models["m"]["w"].tolist() == [0, 1, 2, 3, 4]
        assert again.snapshot().find("last") == (4, 1)
        assert verify(again.path).sound
        writer = again.begin()
        writer.delete(["last"])
        assert again.commit([writer]) == 7
    assert Store.open(tmp_path / "new" / "index").snapshot().count == 5


def test_equal_indexes_give_equal_snapshot_files(store, tmp_path):
    store.save_to(tmp_path / "one.tar")
    store.save_to(tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with pytest.raises(AlreadyExists):
        store.save_to(tmp_path / "one.tar")


def test_a_reader_may_save_while_the_writer_goes_on(store, tmp_path):
    reader = Store.open(store.path)
    store.compact(purge=True)
    assert reader.save_to(tmp_path / "copy.tar") == store.snapshot().generation
    assert Store.restore(tmp_path / "copy.tar", tmp_path / "new").snapshot().count == 6


def test_restoring_over_something_is_refused(store, tmp_path):
    store.save_to(tmp_path / "copy.tar")
    with pytest.raises(AlreadyExists):
        Store.restore(tmp_path / "copy.tar", store.path)
    assert store.snapshot().count == 6


def test_a_damaged_or_shortened_snapshot_never_becomes_an_index(store, tmp_path):
    store.save_to(tmp_path / "copy.tar")
    good = (tmp_path / "copy.tar").read_bytes()
    bad = tmp_path / "bad.tar"
    tried = 0
    for place in range(0, len(good), 1999):
        flipped = good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :]
        for damaged in (good[:place], flipped):
            bad.write_bytes(damaged)
            try:
                Store.restore(bad, tmp_path / "new").close()
            except (BadData, Damaged):
                assert not (tmp_path / "new").exists()
                tried += 1
            else:  # what was damaged means nothing: padding, or the end of the tar
                assert verify(tmp_path / "new").sound
                with Store.open(tmp_path / "new") as again:
                    assert again.snapshot().digest == store.snapshot().digest
                _remove(tmp_path / "new")
    assert tried > 10
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []


def _remove(path):
    for inner in sorted(path.rglob("*"), reverse=True):
        inner.rmdir() if inner.is_dir() else inner.unlink()
    path.rmdir()


@pytest.mark.parametrize("kind", ["link", "hard link", "device", "climbing", "absolute", "extra"])
def test_a_hostile_snapshot_writes_nothing_outside(store, tmp_path, kind):
    store.save_to(tmp_path / "copy.tar")
    target = tmp_path / "hostile.tar"
    with tarfile.open(tmp_path / "copy.tar") as old, tarfile.open(target, "w") as new:
        for number, member in enumerate(old):
            if number == 1:
                new.addfile(*_hostile(kind, member.name))
            new.addfile(member, old.extractfile(member))
    with pytest.raises(BadData, match="does not belong there"):
        Store.restore(target, tmp_path / "x" / "new")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "canary").exists()


def _hostile(kind, expected):
    member = tarfile.TarInfo(expected)
    body = b""
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    elif kind == "hard link":
        member.type, member.linkname = tarfile.LNKTYPE, "/etc/passwd"
    elif kind == "device":
        member.type = tarfile.CHRTYPE
    else:
        names = {"climbing": "segments/../../../canary", "absolute": "/tmp/canary", "extra": "a"}
        member.name, body = names[kind], b"boo"
        member.size = len(body)
    return member, io.BytesIO(body)


@pytest.mark.parametrize("content", [b"", b"x" * 4000, b"\0" * 20480])
def test_what_is_no_snapshot_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadData, match="no snapshot"):
        Store.restore(tmp_path / "file", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_verify_lists_every_damaged_file_and_changes_nothing(store):
    store.close()
    victims = sorted((store.path / "segments").rglob("pack.bin"))[:2]
    for victim in victims:
        victim.chmod(0o644)
        victim.write_bytes(victim.read_bytes()[:-1] + b"\x7f")
    older = store.path / "manifest-0000000005.json"
    older.chmod(0o644)
    older.write_bytes(b"{}")
    report = verify(store.path)
    assert not report.sound
    assert len(report.problems) == 3
    for path in (*victims, older):
        assert any(str(path) in problem for problem in report.problems)


def test_verify_counts_what_it_has_read(store):
    report = verify(store.path)
    assert (report.generation, report.documents, report.problems) == (6, 6, ())
    snapshot = store.snapshot()
    size = sum(sum(segment.bytes.values()) for segment in snapshot.segments)
    assert report.bytes == size + snapshot.manifest.models["m"].bytes
    assert report.files == 5 * 5 + 1


def test_a_part_of_a_copy_never_opens(store, tmp_path):
    store.close()
    files = sorted(p for p in store.path.rglob("*") if p.is_file())
    for missing in files:
        if missing.name in {"LOCK", "BALLAST"} or missing.name.startswith("catalogue"):
            continue
        copy = tmp_path / "copy"
        for path in files:
            if path != missing:
                target = copy / path.relative_to(store.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        (copy / "models").mkdir(exist_ok=True)
        in_use = missing.parent.name in {e.name for e in _manifest(store).segments} | {
            e.name for e in _manifest(store).models.values()
        }
        if missing.name.startswith("manifest") or in_use:
            with pytest.raises(ColreduceError) as refused:
                Store.open(copy)
            assert isinstance(refused.value, Damaged), missing
        _remove(copy)


def _manifest(store):
    return manifest.newest(store.path)[0]


def test_a_closed_store_says_so(store):
    store.close()
    with pytest.raises(BadInput, match="closed"):
        store.snapshot()
