"""The pages that are written from the code say what the code says today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from colreduce.cli import main
from colreduce.recipe import tables

DOCS = Path(__file__).resolve().parents[2] / "docs"


def writer(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["write_methods", "write_commands"])
def test_a_written_page_is_fresh(name: str):
    module = writer(name)
    # The exit status is compared, not the text: a diff of a long page helps nobody.
    assert module.main(["--check"]) == 0, f"{module.PAGE.name} is stale; run `make docs`"


def test_the_page_of_methods_has_a_section_for_every_method():
    page = writer("write_methods").page()
    expected = [name for table in tables().values() for name in sorted(table)]
    assert re.findall(r"^### `(\w+)`$", page, re.MULTILINE) == expected


def test_the_page_of_methods_names_every_stage_in_the_order_of_a_recipe():
    module = writer("write_methods")
    filled = [module.STAGE_WORDS[stage][0] for stage, table in tables().items() if table]
    assert re.findall(r"^## (.+)$", module.page(), re.MULTILINE) == ["Presets", *filled]


def test_the_page_of_commands_has_a_section_for_every_command():
    page = writer("write_commands").page()
    expected = main.list_commands(click.Context(main))
    assert re.findall(r"^## `colreduce (\w+)`$", page, re.MULTILINE) == expected


def test_every_option_of_a_command_is_in_its_section():
    module = writer("write_commands")
    parts = re.split(r"^## `colreduce (\w+)`$", module.page(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    missing = [
        f"{name} {option.opts[-1]}"
        for name, command in module.commands()
        for option in command.params
        if isinstance(option, click.Option)
        and not option.hidden
        and f"`{option.opts[-1]}`" not in sections[name] + parts[0]
    ]
    assert missing == []
