"""Tables, errors and commands are documented where users look for them."""

from __future__ import annotations

import dataclasses
import inspect
import re

import click
import pytest

from colreduce import errors
from colreduce.cli import main
from colreduce.method import Method
from colreduce.recipe import tables

ROWS = [
    pytest.param(stage, name, method, id=f"{stage}-{name}")
    for stage, table in tables().items()
    for name, method in table.items()
]


@pytest.mark.parametrize(("stage", "name", "method"), ROWS)
def test_a_row_of_a_table_carries_its_own_name(stage: str, name: str, method: type[Method]):
    assert method.name == name


@pytest.mark.parametrize(("stage", "name", "method"), ROWS)
def test_a_row_says_what_it_does_and_where_it_is_from(stage: str, name: str, method: type[Method]):
    first = inspect.cleandoc(vars(method).get("__doc__") or "").split("\n\n")[0]
    assert len(first) > 20
    assert first.endswith((".", ":"))
    assert method.paper or method.when


@pytest.mark.parametrize(("stage", "name", "method"), ROWS)
def test_every_parameter_says_what_it_means(stage: str, name: str, method: type[Method]):
    silent = [f.name for f in dataclasses.fields(method) if not f.metadata.get("says")]
    assert silent == []


def test_a_name_stands_in_one_table_only():
    names = [name for table in tables().values() for name in table]
    assert sorted(names) == sorted(set(names))


def test_the_tree_of_errors_shows_every_error_under_its_parent():
    assert inspect.getdoc(errors) is not None
    drawn: list[tuple[str, str]] = []
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)([A-Z]\w+)(?: \(\w+\))?(?:  |$)", line):
            depth = len(match.group(1)) // 4
            above = [*above[:depth], match.group(2)]
            drawn.append((match.group(2), above[-2] if depth else ""))
    defined = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.ColreduceError)
    }
    assert {name for name, _ in drawn} == set(defined)
    assert [
        (child, parent)
        for child, parent in drawn
        if parent and defined[parent] not in defined[child].__bases__
    ] == []


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_every_command_has_help_and_every_option_too():
    silent = []
    for name, command in commands().items():
        if not (command.help or "").strip():
            silent.append(name)
        silent += [
            f"{name} {option.opts[-1]}"
            for option in command.params
            if isinstance(option, click.Option) and not option.help and not option.hidden
        ]
    assert silent == []
