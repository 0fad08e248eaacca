"""Files and functions stay small enough to read at one sitting."""

from __future__ import annotations

import ast

from tests.architecture.source import ROOT, modules, name, tree

MODULE_LINES = 400
FUNCTION_LINES = 60

# A module that has to be longer stands here with its reason.
LONGER: dict[str, str] = {}


def test_no_module_is_longer_than_400_lines():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    too_long = {path: lines for path, lines in lengths.items() if lines > MODULE_LINES}
    assert {path: lines for path, lines in too_long.items() if path not in LONGER} == {}


def test_the_list_of_longer_modules_holds_only_longer_modules():
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in LONGER}
    assert {path for path, length in lines.items() if length <= MODULE_LINES} == set()


def test_no_function_is_longer_than_60_lines():
    too_long = {
        f"{name(path)}:{node.lineno} {node.name}": length
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    }
    assert too_long == {}


def test_every_module_says_what_it_is_for():
    silent = [
        name(path)
        for path in modules()
        if path.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree(path))
    ]
    assert silent == []
