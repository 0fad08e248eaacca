"""What README.md says of the tree and of make is so."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = README.partition("## The tree")[2]


def test_every_path_in_the_tree_exists():
    paths = re.findall(r"^\| `([^`]+)` \|", TREE, re.MULTILINE)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_part_of_the_library_is_in_the_tree():
    folders = {f"{path.parent.name}/" for path in (ROOT / "colreduce").glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "colreduce").glob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"^\| `colreduce/([^`]+)` \|", TREE, re.MULTILINE))
    assert folders | modules == named


def test_every_target_of_make_is_explained():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    explained = re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)
    assert sorted(explained) == sorted(phony[1].split())


def test_readme_names_only_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
