"""The command ``colreduce methods``."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args, get_type_hints

import click

from colreduce.cli.options import Command, Shared, shared
from colreduce.cli.screen import Screen


@click.command(cls=Command)
@click.argument("name", required=False)
@shared
def methods(shared: Shared, name: str | None) -> None:
    """List the methods of every stage and of training, or explain the one called NAME.

    \b
    Examples:
      colreduce methods
      colreduce methods ward
      colreduce methods --json
    """
    from colreduce.choose import choose
    from colreduce.recipe import PRESETS, tables
    from colreduce.train.objectives import OBJECTIVES

    stages = {
        stage: [about(stage, method) for method in table.values()]
        for stage, table in {**tables(), "training_objective": OBJECTIVES}.items()
    }
    if name is not None:
        every = {entry["name"]: entry for entries in stages.values() for entry in entries}
        chosen = choose(every, name, "method")
        if shared.screen.as_json:
            shared.screen.document({"format": 1, **chosen})
        else:
            _explain(shared.screen, chosen)
    elif shared.screen.as_json:
        shared.screen.document({"format": 1, "stages": stages, "presets": PRESETS})
    else:
        _list(shared.screen, stages, PRESETS)


def about(stage: str, method: type[Any]) -> dict[str, Any]:
    """Return everything that a method's class says of itself, as plain values."""
    hints = get_type_hints(method)
    return {
        "name": method.name,
        "stage": stage,
        "says": _paragraphs(method),
        "when": method.when,
        "paper": method.paper,
        "needs": list(method.needs),
        "parameters": [
            _parameter(field, hints[field.name]) for field in dataclasses.fields(method)
        ],
    }


def _paragraphs(method: type[Any]) -> list[str]:
    text = inspect.cleandoc(vars(method).get("__doc__") or "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _parameter(field: dataclasses.Field[Any], hinted: Any) -> dict[str, Any]:
    kinds = [kind.__name__ for kind in (get_args(hinted) or (hinted,)) if kind is not type(None)]
    rules = field.metadata
    return {
        "name": field.name,
        "type": " or ".join(kinds),
        "default": field.default,
        "says": rules.get("says", ""),
        "range": _range(rules),
    }


def _range(rules: Any) -> str:
    if rules.get("choices"):
        return ", ".join(map(str, rules["choices"]))
    words = {"low": "at least", "above": "more than", "high": "at most"}
    bounds = ", ".join(
        f"{word} {rules[key]:g}" for key, word in words.items() if rules.get(key) is not None
    )
    return " or ".join([bounds, *rules.get("words", ())])


def _list(screen: Screen, stages: dict[str, list[dict[str, Any]]], presets: dict[str, str]) -> None:
    for stage, entries in stages.items():
        if entries:
            screen.heading(stage.replace("_", " "))
            screen.table(["", ""], [(entry["name"], entry["says"][0]) for entry in entries])
    screen.heading("presets")
    screen.table(["", ""], list(presets.items()))


def _explain(screen: Screen, entry: dict[str, Any]) -> None:
    screen.heading(f"{entry['name']} ({entry['stage'].replace('_', ' ')})")
    for paragraph in entry["says"]:
        screen.text(paragraph)
    facts = [
        ("when", entry["when"]),
        ("needs", ", ".join(entry["needs"]) or "the vectors only"),
        ("from", entry["paper"]),
    ]
    screen.table(["", ""], [fact for fact in facts if fact[1]])
    if entry["parameters"]:
        rows = [
            (one["name"], one["type"], _shown(one["default"]), one["range"], one["says"])
            for one in entry["parameters"]
        ]
        screen.table(["parameter", "type", "default", "allowed", "meaning"], rows)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    return "-" if default is None else str(default)
