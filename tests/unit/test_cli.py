from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from colreduce.cli import COMMANDS, main
from colreduce.recipe import tables

RECIPE = "ward(factor=2) | int8 | mean | maxsim(candidates=4)"


def run(*words: object, code: int = 0, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], env=env)
    assert result.exit_code == code, result.output
    return result


def answer(*words: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(*words, "--json").stdout)
    return found


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Six documents of four vectors, a query that is the third of them, and judgements."""
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(24, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(tmp_path / "query.npy", rows[8:12])
    path = tmp_path / "vectors.npz"
    np.savez(
        path,
        doc_ids=np.array([f"d{i}" for i in range(6)]),
        doclens=np.full(6, 4),
        doc_vectors=rows,
        query_ids=np.array(["q0", "q1"]),
        query_vectors=rows.reshape(6, 4, 8)[[2, 4]],
        qrels_query_ids=np.array(["q0", "q1"]),
        qrels_doc_ids=np.array(["d2", "d4"]),
        qrels_scores=np.array([1, 1]),
    )
    return path


@pytest.fixture
def folder(tmp_path: Path, vectors: Path) -> Path:
    run("index", vectors, "--vectors", "--out", tmp_path / "idx", "--recipe", RECIPE, "-q")
    return tmp_path / "idx"


def test_help_lists_the_commands_and_what_each_is_for():
    text = run("--help").output
    for name, says in COMMANDS.items():
        assert name in text
        assert says.split(",")[0].split(".")[0][:30] in text
    assert run("--version").output.startswith("colreduce ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples(name: str):
    assert f"colreduce {name}" in run(name, "--help").output.split("Examples:")[1]


def test_a_misspelt_command_is_answered_with_the_right_one():
    assert "Did you mean 'search'?" in run("serch", code=2).stderr


def test_vectors_are_indexed_and_found_again(folder: Path, tmp_path: Path):
    found = answer("search", folder, "--query-vectors", tmp_path / "query.npy", "-k", 3)
    hits = found["hits"]
    assert isinstance(hits, list)
    assert found["documents"] == 6
    assert hits[0]["id"] == "d2"
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    exact = answer("search", folder, "--query-vectors", tmp_path / "query.npy", "--exact")
    assert len(exact["hits"]) == 6  # type: ignore[arg-type]
    shown = run("search", folder, "--query-vectors", tmp_path / "query.npy", "-k", 2)
    assert shown.stdout.splitlines()[2].split()[0::2] == ["1", "d2"]
    assert "2 of 6 documents in" in shown.stderr


def test_json_is_the_only_thing_on_stdout_and_quiet_says_nothing(vectors: Path, tmp_path: Path):
    words = ("index", vectors, "--vectors", "--recipe", RECIPE)
    told = run(*words, "--out", tmp_path / "a", "--json")
    assert json.loads(told.stdout)["documents"] == 6
    assert '"event": "progress"' in told.stderr
    assert run(*words, "--out", tmp_path / "b", "-q", "--json").stderr == ""
    shown = run(*words, "--out", tmp_path / "c", "-q")
    assert "6 documents, 2.0 vectors each of 4.0 tokens" in shown.stdout


def test_inspect_shows_recipe_and_bytes(folder: Path):
    about = answer("inspect", folder)
    assert about["recipe"] == RECIPE
    assert about["raw_bytes_per_doc"] == 4 * 8 * 4
    text = run("inspect", folder).stdout
    assert RECIPE in text
    assert "none: vectors only" in text
    assert "raw fp32 vectors" in text


def test_evaluate_compares_recipes_and_writes_a_run(vectors: Path, tmp_path: Path):
    out = tmp_path / "run.trec"
    words = ("evaluate", vectors, "--recipe", "exact", "--recipe", RECIPE, "--metric", "RR@10")
    found = answer(*words, "--run-out", out)
    rows = found["rows"]
    assert isinstance(rows, list)
    assert [row["recipe"] for row in rows] == ["fp32 | exhaustive | maxsim", RECIPE]
    assert rows[0]["metrics"] == {"RR@10": 1.0}
    assert [loss["stage"] for loss in rows[1]["losses"]] == [
        "exact",
        "ward(factor=2)",
        "int8",
        "mean",
        "maxsim(candidates=4)",
    ]
    assert len(out.read_text().splitlines()) == 2 * 6 + 2 * 4
    text = run(*words).stdout
    assert "side by side" in text
    assert "top 10 kept" in text


def test_options_come_from_the_environment(vectors: Path, tmp_path: Path):
    env = {"COLREDUCE_RECIPE": "fp16", "COLREDUCE_INDEX_OUT": str(tmp_path / "e")}
    run("index", vectors, "--vectors", "-q", env=env)
    assert answer("inspect", tmp_path / "e")["recipe"] == "fp16 | exhaustive | maxsim"
    several = {"COLREDUCE_RECIPES": "exact;fp16 | maxsim", "COLREDUCE_JSON": "1"}
    rows = json.loads(run("evaluate", vectors, env=several).stdout)["rows"]
    assert [row["recipe"] for row in rows] == [
        "fp32 | exhaustive | maxsim",
        "fp16 | exhaustive | maxsim",
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["search", "{tmp}"], 2, "Wanted either TEXT or --query-vectors"),
        (["search", "{tmp}", " "], 2, "TEXT is empty"),
        (["search", "{tmp}", "a"], 1, "holds no colreduce index"),
        (["search", "{tmp}/none", "a"], 1, "none"),
        (["inspect", "{tmp}"], 1, "holds no colreduce index"),
        (["index", "{tmp}", "--out", "{tmp}/x"], 2, "Wanted --encoder MODEL"),
        (["index", "{tmp}/none", "--vectors", "--out", "{tmp}/x"], 1, "no file or folder"),
        (["index", "{tmp}/vectors.npz", "--vectors"], 2, "Missing option '--out'"),
        (
            ["index", "{tmp}/vectors.npz", "--vectors", "--out", "{tmp}/x", "--recipe", "wrad"],
            1,
            "Did you mean 'ward'",
        ),
        (["evaluate", "{tmp}"], 2, "Wanted --encoder MODEL"),
        (["evaluate", "{tmp}/vectors.npz", "--metric", "nGDC"], 1, "no metric 'nGDC'"),
        (["methods", "wrad"], 1, "Did you mean 'ward'"),
    ],
)
def test_mistakes_get_one_message_and_their_exit_code(
    vectors: Path, tmp_path: Path, words: list[str], code: int, message: str
):
    result = run(*(word.format(tmp=tmp_path) for word in words), code=code)
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "x").exists()


def test_verbose_shows_where_an_error_arose(tmp_path: Path):
    result = run("inspect", tmp_path, "-v", code=1)
    assert "Traceback" in result.stderr
    assert "NotAnIndex" in result.stderr


def test_methods_are_listed_by_stage_and_explained_by_name():
    found = answer("methods")
    stages = found["stages"]
    assert isinstance(stages, dict)
    for stage, table in tables().items():
        assert [entry["name"] for entry in stages[stage]] == list(table)
    ward = answer("methods", "ward")
    assert ward["stage"] == "reduce"
    assert "factor" in [one["name"] for one in ward["parameters"]]  # type: ignore[attr-defined]
    text = run("methods", "ward").stdout
    assert "leave 1 vector in so many" in text
    assert "2409.14683" in text


def test_the_demo_runs_and_leaves_an_index_that_finds_what_it_should(
    demo_model: str, tmp_path: Path
):
    out = tmp_path / "demo"
    result = run("demo", "--out", out, "--recipe", "ward(factor=4) | int8")
    for words in ("bytes per document", "what every stage lost", "try next", "top 10 kept"):
        assert words in result.stdout.lower()
    assert result.stdout.count("colreduce search") == 1
    found = answer("search", out, "what makes sourdough bread sour", "-k", 3)
    hits = found["hits"]
    assert isinstance(hits, list)
    assert "sourdough" in hits[0]["id"]
    assert hits[0]["text"]
    about = answer("inspect", out)
    assert about["documents"] == 200
    losses = about["notes"]["losses"]  # type: ignore[index]
    assert losses[0]["stage"] == "exact"
    assert losses[-1]["nDCG@10"] > 0.8
    # It may be run again, but it does not replace anything else.
    again = json.loads(run("demo", "--out", out, "--recipe", "fp16", "--json", "-q").stdout)
    assert again["row"]["relative"]["nDCG@10"] == pytest.approx(1.0, abs=0.02)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    assert "is no demo index" in run("demo", "--out", tmp_path / "mine", code=1).stderr
