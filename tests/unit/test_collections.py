"""Many indexes under one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from colreduce import Collections, Index
from colreduce.errors import AlreadyExists, BadInput, Damaged, Locked, NotFound


@pytest.fixture
def two(tmp_path: Path) -> Collections:
    collections = Collections(tmp_path / "root")
    for name in ("papers", "pages"):
        with collections.create(name, recipe="fp32", dim=4) as index:
            index.add([name], embeddings=[torch.eye(4)])
    return collections


def test_what_was_made_is_found_by_name(two: Collections) -> None:
    assert list(two) == two.names() == ["pages", "papers"]
    assert len(two) == 2
    assert "pages" in two
    assert "Pages" not in two
    with two.open("pages") as index:
        assert [hit.id for hit in index.search(torch.eye(4))] == ["pages"]


def test_a_missing_name_gets_a_suggestion(two: Collections) -> None:
    with pytest.raises(NotFound, match="Did you mean 'papers'"):
        two.open("paper")
    with pytest.raises(AlreadyExists, match="papers"):
        two.create("papers", dim=4)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", ".dropped-x", "x" * 65, "a\0"])
def test_no_name_leads_outside(two: Collections, name: str) -> None:
    for verb in (two.open, two.create, two.drop):
        with pytest.raises(BadInput, match="not a collection's name"):
            verb(name)


def test_a_dropped_collection_is_gone_and_the_others_stay(two: Collections) -> None:
    two.drop("pages")
    assert two.names() == ["papers"]
    assert [path.name for path in two.root.iterdir()] == ["papers"]
    with pytest.raises(NotFound):
        two.drop("pages")


def test_a_reader_reads_on_while_its_collection_is_dropped(two: Collections) -> None:
    with two.open("pages") as index:
        two.drop("pages")
        assert [hit.id for hit in index.search(torch.eye(4))] == ["pages"]


def test_a_collection_with_a_writer_is_not_dropped(two: Collections) -> None:
    code = (
        "import sys, colreduce\n"
        "index = colreduce.Index.open(sys.argv[1]); index.acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(two.root / "pages")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match=str(writer.pid)):
            two.drop("pages")
        writer.communicate()
    two.drop("pages")


def test_a_damaged_collection_troubles_no_other_and_can_be_dropped(two: Collections) -> None:
    victim = next((two.root / "pages" / "segments").glob("*/*.bin"))
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(Damaged):
        two.open("pages")
    with two.open("papers") as index:
        assert len(index) == 1
    two.drop("pages")
    assert two.names() == ["papers"]


def test_what_a_drop_left_behind_is_swept_away(two: Collections) -> None:
    (two.root / "pages").rename(two.root / ".dropped-pages-0badcafe")
    assert two.names() == ["papers"]
    two.sweep()
    assert not list(two.root.glob(".dropped-*"))


def test_what_a_creation_left_behind_is_no_obstacle_to_the_next(two: Collections) -> None:
    (two.root / "new" / "segments").mkdir(parents=True)
    (two.root / "new" / "LOCK").touch()
    with pytest.raises(NotFound):
        two.drop("new")
    with two.create("new", dim=4) as index:
        assert len(index) == 0
    (two.root / "notes").mkdir()
    (two.root / "notes" / "notes.txt").touch()
    with pytest.raises(AlreadyExists, match="not empty"):
        two.create("notes", dim=4)


def test_a_link_is_never_removed_nor_followed_to_make_an_index_elsewhere(
    two: Collections, tmp_path: Path
) -> None:
    Index.create(tmp_path / "elsewhere", dim=4).close()
    (two.root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    (two.root / "away").symlink_to(tmp_path / "empty")
    with pytest.raises(BadInput, match="by hand"):
        two.drop("linked")
    with pytest.raises(AlreadyExists, match="link"):
        two.create("away", dim=4)


def test_a_folder_of_indexes_is_wanted(two: Collections) -> None:
    with pytest.raises(BadInput, match="is an index itself"):
        Collections(two.root / "pages")
    assert Collections(two.root / "nowhere").names() == []
