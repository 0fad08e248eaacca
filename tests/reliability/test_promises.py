"""Every promise names tests that exist."""

import ast
import re
from pathlib import Path

from tests.reliability import campaign

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "promises.md").read_text().splitlines()
    if re.match(r"\| P\d", line)
]


def functions(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_a_test_that_exists():
    assert len(ROWS) >= 12
    for row in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, name in named:
            assert name in functions(path), f"{path} has no {name}"


def test_every_part_that_a_promise_names_is_run_by_the_nightly_campaign(tmp_path):
    nightly = campaign.parts("nightly", tmp_path)
    for row in ROWS:
        for part in re.findall(r"`([a-z ]+)`", row.split("|")[-2]):
            assert any(name.startswith(part) for name in nightly), part
