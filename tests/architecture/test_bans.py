"""What code must not contain: doors through which a file could run code, and leftovers."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import calls, modules, name, tree

# Each of these can run code that a file brings along. The literal parser of `ast` cannot.
BANNED_CALLS = {"eval", "exec", "yaml.load", "torch.load", "os.system", "faiss.read_index_binary"}
BANNED_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
LOADERS = {"np.load", "numpy.load"}


def test_no_module_imports_anything_that_unpickles():
    found = [
        f"{name(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom) and BANNED_IMPORTS & set(_imported(node))
    ]
    assert found == []


def test_no_module_calls_what_runs_code_from_a_file():
    found = [
        f"{name(path)}:{line} {called}"
        for path in modules()
        for line, called, _ in calls(path)
        if called in BANNED_CALLS
    ]
    assert found == []


def test_numpy_files_are_opened_without_pickle():
    found = [
        f"{name(path)}:{line}"
        for path in modules()
        for line, called, call in calls(path)
        if called in LOADERS and not _refuses_pickle(call)
    ]
    assert found == []


def test_a_shell_is_never_started():
    found = [
        f"{name(path)}:{line} {called}"
        for path in modules()
        for line, called, call in calls(path)
        if any(word.arg == "shell" and _is(word.value, True) for word in call.keywords)
    ]
    assert found == []


@pytest.mark.parametrize(
    "leftover", ["TODO", "FIXME", "XXX", "raise NotImplementedError", "breakpoint("]
)
def test_nothing_is_left_for_later(leftover: str):
    found = [
        f"{name(path)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if leftover in line
    ]
    assert found == []


def test_only_the_command_line_writes_to_the_terminal():
    found = [
        f"{name(path)}:{line}"
        for path in modules()
        for line, called, _ in calls(path)
        if called == "print"
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "banned"),
    [
        ("np.load(path)", True),
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path, allow_pickle=False)", False),
    ],
)
def test_the_check_itself_tells_safe_from_unsafe(source: str, banned: bool):
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _refuses_pickle(call) is not banned


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    return [alias.name.split(".")[0] for alias in node.names]


def _refuses_pickle(call: ast.Call) -> bool:
    return any(word.arg == "allow_pickle" and _is(word.value, False) for word in call.keywords)


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
