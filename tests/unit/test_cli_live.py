from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from colreduce import Index
from colreduce.cli import main
from tests.unit.test_index import DIM, documents, names


@pytest.fixture
def folder(tmp_path) -> Path:
    with Index.create(tmp_path / "idx", recipe="window(factor=2) | int8 | mean", dim=DIM) as index:
        notes = [{"n": n} for n in range(20)]
        texts = [f"text number {n}" for n in range(20)]
        index.add(names(20), texts, embeddings=documents(20), metadata=notes)
    return tmp_path / "idx"


def run(*arguments: object, code: int = 0, given: str | None = None) -> str:
    answer = CliRunner().invoke(main, [str(one) for one in arguments], input=given)
    assert answer.exit_code == code, answer.output
    return answer.stdout


def ask(*arguments: object, code: int = 0, given: str | None = None) -> dict:
    return json.loads(run(*arguments, "--json", code=code, given=given))


def test_deleting_needs_a_yes(folder):
    run("delete", folder, "d001", code=1, given="n\n")
    assert len(Index.open(folder)) == 20
    answer = ask("delete", folder, "d001", "nobody", "--yes")
    assert answer["deleted"] == ["d001"]
    assert answer["missing"] == ["nobody"]
    assert len(Index.open(folder)) == 19


def test_a_dry_run_changes_nothing(folder):
    generation = Index.open(folder).generation
    assert ask("delete", folder, "d001", "--dry-run")["deleted"] == ["d001"]
    assert ask("compact", folder, "--purge", "--dry-run")["dry_run"] is True
    assert Index.open(folder).generation == generation


def test_ids_can_come_from_stdin(folder):
    assert ask("delete", folder, "-", "--yes", given="d003\nd004\n\n")["deleted"] == [
        "d003",
        "d004",
    ]


def test_a_stored_document_is_shown(folder):
    [document] = ask("get", folder, "d007")["documents"]
    assert document == {"id": "d007", "metadata": {"n": 7}, "text": "text number 7"}
    assert "text number 7" in run("get", folder, "d007")
    run("get", folder, "nobody", code=1)


def test_compaction_reports_the_segments(folder):
    run("delete", folder, "d001", "--yes")
    answer = ask("compact", folder, "--purge", "--yes")
    assert answer["segments"] == {"before": 2, "after": 1}
    assert answer["documents"] == 19


def test_a_snapshot_is_restored_elsewhere(folder, tmp_path):
    assert ask("snapshot", folder, tmp_path / "copy.tar")["bytes"] > 0
    run("snapshot", folder, tmp_path / "copy.tar", code=1)
    assert ask("restore", tmp_path / "copy.tar", tmp_path / "again")["documents"] == 20
    with Index.open(folder) as before, Index.open(tmp_path / "again") as after:
        query = documents(1, seed=3)[0]
        assert after.search(query) == before.search(query)


def test_verify_exits_with_1_and_names_the_damaged_file(folder):
    assert ask("verify", folder)["sound"] is True
    [file] = folder.glob("segments/*/pack.bin")
    file.chmod(0o644)
    file.write_bytes(b"x" + file.read_bytes()[1:])
    answer = ask("verify", folder, "--quality", code=1)
    assert answer["quality"] is None
    assert answer["sound"] is False
    assert any("pack.bin" in problem for problem in answer["problems"])
    assert run("search", folder, "--query-vectors", "nothing.npy", code=1) == ""


def test_vectors_are_added_to_an_index(folder, tmp_path):
    import numpy as np

    more = documents(3, seed=8)
    np.savez(
        tmp_path / "more.npz",
        doc_ids=np.array(["d000", "x", "y"]),
        doclens=np.array([len(one) for one in more]),
        doc_vectors=torch.cat(more).numpy(),
    )
    assert ask("add", folder, tmp_path / "more.npz", "--vectors")["documents"] == 22


def test_search_takes_a_filter_as_a_line_or_as_json(folder, tmp_path):
    import numpy as np

    np.save(tmp_path / "query.npy", documents(1, seed=3)[0].numpy())
    for wanted in ("n < 3", '{"n": {"lt": 3}}'):
        asked = ("search", folder, "--query-vectors", tmp_path / "query.npy", "--filter", wanted)
        assert {hit["id"] for hit in ask(*asked)["hits"]} == {"d000", "d001", "d002"}
    asked = ("search", folder, "--query-vectors", tmp_path / "query.npy", "--filter")
    run(*asked, "n <", code=1)
    run(*asked, '{"n": ', code=2)
