"""Write docs/methods.md from the tables of methods.

python docs/write_methods.py            write the page
python docs/write_methods.py --check    exit 1 when the page is not what would be written
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from colreduce.method import Method
from colreduce.recipe import DEFAULTS, PRESETS, tables

PAGE = Path(__file__).parent / "methods.md"

INTRO = """\
# Methods

<!-- Written by docs/write_methods.py from the tables of methods. Change the docstring or the
parameter in the code, then run `make docs`. -->

Every method of every stage, in the order in which a recipe names them. `colreduce methods` prints
the same in a terminal, `colreduce methods NAME` one of them. How methods are put together is told
in [recipes.md](recipes.md).
"""

STAGE_WORDS = {
    "transform": (
        "Transforms",
        "Maps of single vectors, learned from a sample and applied to documents and queries alike. "
        "A recipe may name several.",
    ),
    "reduce": (
        "Reducers",
        "A document's vectors in, fewer out. A recipe may name several; each works on what the one "
        "before left.",
    ),
    "codec": ("Codecs", "How the vectors that are left lie on disk. A recipe names one."),
    "query": (
        "Query reducers",
        "A query's vectors in, fewer out. Off unless a recipe names one.",
    ),
    "first_stage": (
        "First stages",
        "Find the documents that are worth an exact score. A recipe may name several if it also "
        "names a fusion.",
    ),
    "fusion": ("Fusion", "Joins the candidates of several first stages."),
    "rerank": ("Rerankers", "Put the candidates into their final order. A recipe names one."),
}


def page() -> str:
    """Return the whole page."""
    stages = {stage: table for stage, table in tables().items() if table}
    parts = [INTRO, _contents(stages), _presets()]
    parts += [_stage(stage, table) for stage, table in stages.items()]
    return "\n".join(parts)


def _contents(stages: Mapping[str, Mapping[str, type[Method]]]) -> str:
    lines = ["| stage | methods | if none is named |", "|---|---|---|"]
    for stage, table in stages.items():
        title = STAGE_WORDS[stage][0]
        names = " ".join(f"[`{name}`](#{name})" for name in sorted(table))
        default = f"`{DEFAULTS[stage]}`" if stage in DEFAULTS else "nothing"
        lines.append(f"| [{title}](#{_slug(title)}) | {names} | {default} |")
    return "\n".join(lines) + "\n"


def _presets() -> str:
    lines = ["## Presets\n", "| preset | recipe |", "|---|---|"]
    for name, line in PRESETS.items():
        escaped = line.replace("|", "\\|")
        lines.append(f"| `{name}` | `{escaped}` |")
    return "\n".join(lines) + "\n"


def _stage(stage: str, table: Mapping[str, type[Method]]) -> str:
    title, words = STAGE_WORDS[stage]
    parts = [f"## {title}\n", f"{words}\n"]
    bases = _bases(table.values())
    for base, fields in bases.items():
        users = sum(issubclass(method, base) for method in table.values())
        parts.append(f"### Parameters that {users} of these {title.lower()} share\n")
        parts.append(_parameters(base, fields))
    for name in sorted(table):
        parts.append(_method(table[name], title, list(bases)))
    return "\n".join(parts)


def _method(method: type[Method], title: str, bases: list[type]) -> str:
    parts = [f"### `{method.name}`\n", _docstring(method)]
    facts = [
        ("When", method.when),
        ("Needs", ", ".join(f"`{name}`" for name in method.needs)),
        ("Paper", method.paper),
    ]
    parts += [f"- {word}: {fact}" for word, fact in facts if fact]
    parts.append("")
    own = [f for f in dataclasses.fields(method) if _owner(method, f.name) not in bases]
    if own:
        parts.append(_parameters(method, own))
    shared = [f"`{f.name}`" for f in dataclasses.fields(method) if f not in own]
    if shared:
        words = "Also takes" if own else "Takes"
        parts.append(f"{words} {', '.join(shared)} ([shared](#{_slug(title)})).\n")
    return "\n".join(parts)


def _docstring(method: type[Method]) -> str:
    text = inspect.cleandoc(vars(method).get("__doc__") or "")
    return re.sub(r"``([^`]+)``", r"`\1`", text) + "\n"


def _parameters(owner: type, fields: Iterable[dataclasses.Field[Any]]) -> str:
    hints = get_type_hints(owner)
    lines = ["| parameter | default | may be | what it means |", "|---|---|---|---|"]
    for field in fields:
        default = "none" if field.default is None else f"`{_shown(field.default)}`"
        says = str(field.metadata["says"]).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {default} | {_range(field, hints)} | {says} |")
    return "\n".join(lines) + "\n"


def _range(field: dataclasses.Field[Any], hints: Mapping[str, Any]) -> str:
    rules = field.metadata
    if rules.get("choices"):
        return ", ".join(f"`{_shown(choice)}`" for choice in rules["choices"])
    hinted = hints[field.name]
    kinds = [kind for kind in get_args(hinted) or (hinted,) if kind is not type(None)]
    instead = [f"`{word}`" for word in rules.get("words", ())]
    if instead:
        kinds.remove(str)
    words = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}
    bounds = [
        f"{sign} {rules[rule]:g}"
        for rule, sign in (("above", ">"), ("low", "≥"), ("high", "≤"))
        if rules.get(rule) is not None
    ]
    named = " or ".join(words.get(kind, getattr(kind, "__name__", str(kind))) for kind in kinds)
    return " or ".join([" ".join([named, " and ".join(bounds)]).strip(), *instead])


def _bases(methods: Iterable[type[Method]]) -> dict[type, list[dataclasses.Field[Any]]]:
    """Return the classes of a stage's base module that declare parameters, with those."""
    found: dict[type, dict[str, dataclasses.Field[Any]]] = {}
    for method in methods:
        for field in dataclasses.fields(method):
            owner = _owner(method, field.name)
            if owner.__module__.endswith(".base"):
                found.setdefault(owner, {})[field.name] = field
    return {owner: list(fields.values()) for owner, fields in found.items()}


def _owner(method: type, name: str) -> type:
    return next(kind for kind in method.__mro__ if name in vars(kind).get("__annotations__", {}))


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", words.lower().replace(" ", "-"))


def main(arguments: list[str]) -> int:
    """Write the page, or compare it with what would be written."""
    if "--check" in arguments:
        return 0 if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
