"""``colreduce index`` from outside: it is stopped, looked at, and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from colreduce.cli import main

MAIN = "from colreduce.cli import main; main()"
COUNT, TOKENS, DIM = 2600, 64, 64


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def answer(*words: object) -> Any:
    return json.loads(run(*words, "--json").stdout)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Documents that are large enough to be cut into a dozen pieces."""
    draw = np.random.default_rng(1)
    path = tmp_path / "v.npz"
    np.savez(
        path,
        doc_ids=np.array([f"d{i}" for i in range(COUNT)]),
        doclens=np.full(COUNT, TOKENS, np.int32),
        doc_vectors=draw.normal(size=(COUNT * TOKENS, DIM)).astype(np.float16),
    )
    return path


@pytest.mark.parametrize(
    ("by", "more"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGINT, ("--workers", "2"))],
)
def test_a_build_that_is_told_to_stop_says_how_to_go_on_and_is_shown(
    tmp_path: Path, vectors: Path, by: signal.Signals, more: tuple[str, ...]
):
    words = ["index", str(vectors), "--vectors", "--memory", "64MB", "--no-ledger"]
    words += ["--recipe", "ward(factor=8) | int8 | mean"]
    child = subprocess.Popen(
        [sys.executable, "-c", MAIN, *words, *more, "--out", str(tmp_path / "idx"), "--json"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert any(line.startswith('{"event": "piece",') for line in child.stderr)
    child.send_signal(signal.SIGSTOP)
    running = answer("inspect", tmp_path / "idx")["building"]
    child.send_signal(by)
    child.send_signal(signal.SIGCONT)
    told = child.communicate()[1]
    assert child.returncode == 1
    assert "pieces are finished and kept. The same command goes on with it." in told
    assert (running["state"], running["process"]) == ("running", str(child.pid))
    assert running["documents"]["all"] == COUNT
    assert 1 <= running["pieces"]["done"] < running["pieces"]["all"]

    stopped = run("inspect", tmp_path / "idx").stdout
    assert "stopped" in stopped
    assert "typed again, goes on" in stopped
    assert "is still being built" in run("search", tmp_path / "idx", "a", code=1).stderr
    built = answer(*words, "--out", tmp_path / "idx")
    assert built["pieces"]["found"] >= running["pieces"]["done"]
    assert built["digest"] == answer(*words, "--out", tmp_path / "other")["digest"]
    assert built["documents"] == COUNT


def test_the_workers_of_a_build_that_was_killed_end_and_another_goes_on(
    tmp_path: Path, vectors: Path
):
    words = ["index", str(vectors), "--vectors", "--memory", "64MB", "--no-ledger"]
    words += ["--recipe", "ward(factor=8) | int8 | mean", "--workers", "2"]
    child = subprocess.Popen(
        [sys.executable, "-c", MAIN, *words, "--out", str(tmp_path / "idx"), "--json"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert child.stderr is not None
    assert any(line.startswith('{"event": "piece",') for line in child.stderr)
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    assert len(workers) >= 2
    child.kill()
    child.communicate()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{one}").exists() for one in workers):
        assert time.monotonic() < end, "a worker outlives the build"
        time.sleep(0.05)
    built = answer(*words, "--out", tmp_path / "idx")
    assert built["pieces"]["found"] >= 1
    assert built["digest"] == answer(*words[:-2], "--out", tmp_path / "other")["digest"]
    assert list((tmp_path / "idx" / "segments").glob(".tmp*")) == []


def test_queries_of_ones_own_are_told_in_the_ledger(tmp_path: Path, demo_model: str):
    """Given queries, with judgements and without a ledger to measure them on."""
    folder = tmp_path / "judged"
    (folder / "qrels").mkdir(parents=True)
    texts = ["the moon raises tides", "yeast raises dough", "slugs feed at night"]
    corpus = [json.dumps({"_id": f"d{n}", "text": text}) for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(corpus))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "what raises tides"}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    common = ("index", folder, "--out", tmp_path / "idx", "--encoder", demo_model)
    refused = run(*common, "--split", "test", code=2)
    assert "name the folder by --queries" in refused.output
    refused = run(*common, "--queries", folder, "--no-ledger", code=2)
    assert "drop --no-ledger" in refused.output
    run(*common, "--recipe", "int8", "--queries", folder, "--split", "test")
    shown = run("inspect", tmp_path / "idx").output
    assert "on 1 queries with judgements" in shown
    assert "nDCG@10" in shown
    assert "agreement@10" in shown
