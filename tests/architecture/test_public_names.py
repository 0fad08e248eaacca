"""The public names: complete, sorted, and where they say they are."""

from __future__ import annotations

import ast
import importlib

import colreduce
from tests.architecture.source import ROOT, tree


def test_all_is_sorted_and_without_doubles():
    assert colreduce.__all__ == sorted(set(colreduce.__all__))


def test_every_public_name_can_be_fetched_and_is_in_dir():
    missing = [name for name in colreduce.__all__ if getattr(colreduce, name, None) is None]
    assert missing == []
    assert set(colreduce.__all__) <= set(dir(colreduce))


def test_every_name_that_type_checkers_see_is_public():
    body = tree(ROOT / "colreduce" / "__init__.py").body
    guards = [node for node in body if isinstance(node, ast.If)]
    seen = {
        alias.asname
        for guard in guards
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(colreduce.__all__)


def test_no_public_name_hides_a_sub_package():
    folders = {path.parent.name for path in (ROOT / "colreduce").glob("*/__init__.py")}
    assert folders & set(colreduce.__all__) == set()


def test_a_name_that_does_not_exist_is_an_attribute_error():
    module = importlib.import_module("colreduce")
    assert getattr(module, "Indx", "absent") == "absent"
