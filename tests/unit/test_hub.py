"""Public data sets by name, read from tables that are laid out as on the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from colreduce.cli import main
from colreduce.errors import BadData, UnknownName
from colreduce.evaluate import hub
from colreduce.evaluate.beir import BeirFolder
from colreduce.evaluate.hub import GROUPS, fetched, is_name
from tests.reference.tiny_page_models import save_colqwen2

datasets = pytest.importorskip("datasets", reason="datasets is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLREDUCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def repository(folder: Path, split: str, tables: Mapping[str, Any]) -> Path:
    """Lay tables out as a repository of the hub: a folder of Parquet for each configuration."""
    lines = ["---", "configs:"]
    for name, rows in tables.items():
        (folder / name).mkdir(parents=True)
        datasets.Dataset.from_list(rows).to_parquet(str(folder / name / f"{split}.parquet"))
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [f"  - split: {split}", f"    path: {name}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def reader(folder: Path) -> Any:
    """Read from a folder here in the place of any repository."""

    def read(_: str, configuration: str, split: str) -> Iterable[Mapping[str, Any]]:
        table: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            str(folder), configuration, split=split, cache_dir=str(folder.parent / "read")
        )
        return table

    return read


def test_nanobeir_becomes_a_folder_in_beirs_layout(tmp_path: Path) -> None:
    made = repository(
        tmp_path / "repo",
        "NanoSciFact",
        {
            "corpus": [{"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}],
            "queries": [{"_id": "q1", "text": "which?"}],
            "qrels": [{"query-id": "q1", "corpus-id": ["d1", "d2"]}],
        },
    )
    folder = fetched(Path("nanobeir/scifact"), reader(made))
    found = BeirFolder(folder)
    assert found.name == "SciFact"
    assert [record.text for record in found.corpus()] == ["one", "two"]
    assert found.queries() == {"q1": "which?"}
    assert found.qrels() == {"q1": {"d1": 1, "d2": 1}}
    assert fetched(Path("nanobeir/SciFact"), reader(tmp_path / "gone")) == folder  # kept


def test_pages_keep_their_pictures(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    page = image.new("RGB", (8, 6), (10, 20, 30))
    made = repository(
        tmp_path / "repo",
        "test",
        {
            "corpus": [{"corpus-id": 7, "image": page}],
            "queries": [{"query-id": 3, "query": "how much?", "language": "english"}],
            "qrels": [{"query-id": 3, "corpus-id": 7, "score": 2}],
        },
    )
    folder = fetched(Path("vidore/esg_reports_v2"), reader(made))
    found = BeirFolder(folder)
    [record] = found.corpus()
    assert record.metadata == {"image": "images/7.png"}
    with image.open(folder / "images" / "7.png") as kept:
        assert kept.size == (8, 6)
    assert found.qrels() == {"3": {"7": 2}}


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    def broken(_: str, configuration: str, split: str) -> Iterable[Mapping[str, Any]]:
        yield {"text": "no id"}

    with pytest.raises(BadData, match="'_id'"):
        fetched(Path("nanobeir/NQ"), broken)
    assert [path for path in (cache / "datasets" / "nanobeir").iterdir()] == []


def test_of_two_who_read_the_same_the_faster_one_is_believed() -> None:
    tables = {
        "corpus": [{"_id": "d1", "text": "one"}],
        "queries": [{"_id": "q1", "text": "which?"}],
        "qrels": [{"query-id": "q1", "corpus-id": "d1"}],
    }

    def read(_: str, configuration: str, split: str) -> Iterable[Mapping[str, Any]]:
        return tables[configuration]

    def slow(_: str, configuration: str, split: str) -> Iterable[Mapping[str, Any]]:
        fetched(Path("nanobeir/SciFact"), read)
        return tables[configuration]

    folder = fetched(Path("nanobeir/SciFact"), slow)
    assert BeirFolder(folder).queries() == {"q1": "which?"}
    assert [one.name for one in folder.parent.iterdir()] == ["SciFact"]


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'SciFact'"):
        fetched(Path("nanobeir/SciFat"))


def test_only_names_of_groups_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_name(Path("vidore/whatever"))
    assert not is_name(Path("other/SciFact"))
    assert not is_name(Path("nanobeir"))
    (tmp_path / "beir" / "scifact").mkdir(parents=True)
    assert not is_name(Path("beir/scifact"))
    for names, place in GROUPS.values():
        assert place(names[0]).corpus[1] == "corpus"


def test_vidore_is_evaluated_with_an_encoder_of_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine with a network and a real checkpoint does, but for the size of both."""
    image = pytest.importorskip("PIL.Image")
    rows = [
        {"corpus-id": 7 + number, "image": image.new("RGB", (300, 400), colour)}
        for number, colour in enumerate(("yellow", "navy", "darkred"))
    ]
    made = repository(
        tmp_path / "three-pages",
        "test",
        {
            "corpus": rows,
            "queries": [
                {"query-id": 3, "query": "what rises", "language": "english"},
                {"query-id": 4, "query": "the moon", "language": "english"},
            ],
            "qrels": [
                {"query-id": 3, "corpus-id": 7, "score": 2},
                {"query-id": 4, "corpus-id": 9, "score": 1},
            ],
        },
    )
    monkeypatch.setattr(hub, "_from_hub", reader(made))
    asked = ["evaluate", "vidore/esg_reports_v2", "--encoder", save_colqwen2(tmp_path / "model")]
    asked += ["--recipe", "exact", "--recipe", "ward(factor=4) | int8", "--metric", "nDCG@5"]
    report = tmp_path / "report.html"
    told = CliRunner().invoke(main, [*asked, "--json", "--report", str(report)])
    assert told.exit_code == 0, told.output
    exact, small = json.loads(told.stdout)["rows"]
    assert exact["dataset"] == "esg_reports_v2"
    assert (exact["documents"], exact["queries"]) == (3, 2)
    assert exact["vectors_per_doc"] == 30
    assert small["vectors_per_doc"] == 7
    assert 0 < exact["metrics"]["nDCG@5"] <= 1
    assert report.is_file()
    # The same again takes nothing from the hub and draws nothing; another picture is another set.
    monkeypatch.setattr(hub, "_from_hub", reader(tmp_path / "gone"))
    again = CliRunner().invoke(main, [*asked, "--json"])
    assert json.loads(again.stdout)["rows"][1]["measured"] == small["measured"]
    folder = fetched(Path("vidore/esg_reports_v2"))
    image.new("RGB", (90, 90), "navy").save(folder / "images" / "7.png")
    other = CliRunner().invoke(main, [*asked, "--json"])
    assert json.loads(other.stdout)["rows"][0]["vectors_per_doc"] != 30


def test_documents_without_pictures_are_no_pages(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    folder = tmp_path / "texts"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "words"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "the moon"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    asked = ["evaluate", str(folder), "--encoder", save_colqwen2(tmp_path / "model")]
    told = CliRunner().invoke(main, [*asked, "--recipe", "exact"])
    assert told.exit_code == 1
    assert "the document 'a' is no page" in told.stderr
