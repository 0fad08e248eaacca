"""The source files of the three packages, parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    ROOT / "colreduce",
    ROOT / "service" / "colreduce_service",
    ROOT / "indexer" / "colreduce_indexer",
)
GENERATED = ROOT / "colreduce" / "rpc" / "v1"


@cache
def modules() -> tuple[Path, ...]:
    """Return every module that people write, in a fixed order."""
    found = (path for package in PACKAGES for path in package.rglob("*.py"))
    return tuple(sorted(path for path in found if GENERATED not in path.parents))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name(path: Path) -> str:
    """Return the path as the repository writes it."""
    return path.relative_to(ROOT).as_posix()


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Yield the line and the dotted name of everything that a module calls."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node
