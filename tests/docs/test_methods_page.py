"""docs/methods.md is what the tables say today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from colreduce.recipe import tables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_methods", ROOT / "docs/write_methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh(writer: ModuleType):
    written = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert written == writer.page(), "docs/methods.md is stale; run `make docs`"


def test_the_page_has_a_section_for_every_method(writer: ModuleType):
    sections = [line for line in writer.page().splitlines() if line.startswith("### `")]
    expected = [f"### `{name}`" for table in tables().values() for name in sorted(table)]
    assert sections == expected


def test_the_page_names_every_stage_in_the_order_of_a_recipe(writer: ModuleType):
    headings = [line[3:] for line in writer.page().splitlines() if line.startswith("## ")]
    filled = [writer.STAGE_WORDS[stage][0] for stage, table in tables().items() if table]
    assert headings == ["Presets", *filled]
