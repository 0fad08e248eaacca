"""Imports go one way, and nothing heavy is loaded before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.architecture.source import ROOT

HEAVY = ("torch", "faiss", "grpc", "sentence_transformers", "transformers", "scipy", "sqlite_utils")


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy packages a fresh interpreter holds after ``code``."""
    tail = f"\nimport sys, json\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_colreduce_loads_nothing_heavy():
    assert loaded_by("import colreduce") == set()


def test_errors_and_methods_load_nothing_heavy():
    assert loaded_by("import colreduce.errors, colreduce.choose, colreduce.method") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]):
    code = (
        "from colreduce.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as done:\n    assert not done.code"
    )
    assert loaded_by(code) == set()


def test_help_answers_at_once():
    code = "from colreduce.cli import main; main(['--help'])"
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
        seconds.append(time.perf_counter() - start)
    # Half a second is the promise on a quiet machine; a busy one is given slack. Whoever imports
    # torch for it takes longer than this.
    assert min(seconds) < 2.0


def test_the_import_rules_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
