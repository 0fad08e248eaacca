"""Recipes: which method runs at each stage, with its parameters.

One line, stages left to right, parameters by keyword, defaults left out:

    pca(dim=128) | ward(factor=8) | int8 | fde(bits=5) | maxsim(candidates=200)

A recipe goes from text to object to TOML and back without change. What this module does not do:
run anything (`colreduce.pipeline`) or know any method (the tables of the stages do).
"""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colreduce.choose import choose, hint
from colreduce.errors import BadInput, BadRecipe, UnknownName
from colreduce.method import Method

PRESETS = {
    "exact": "fp32 | exhaustive | maxsim",
    "balanced": "pca(dim=128) | ward(factor=4) | int8 | mean | maxsim(candidates=500)",
    "small": "pca(dim=128) | ward(factor=8) | int8 | mean | maxsim(candidates=500)",
    "tiny": "pca(dim=128) | ward(factor=16) | int8 | mean | maxsim(candidates=500)",
}

# What stands in for a stage that a recipe does not name: nothing is lost unless asked for.
DEFAULTS = {"codec": "fp32", "first_stage": "exhaustive", "rerank": "maxsim"}

# Stages in their order, and whether a recipe may name several methods there.
STAGES: dict[str, bool] = {
    "transform": True,
    "reduce": True,
    "codec": False,
    "query": True,
    "first_stage": True,
    "fusion": False,
    "rerank": False,
}


def tables() -> dict[str, Mapping[str, type[Method]]]:
    """Return the table of methods of every stage, in the order of the stages."""
    from colreduce.candidates import FIRST_STAGES, FUSIONS
    from colreduce.codec import CODECS
    from colreduce.query import QUERY_REDUCERS
    from colreduce.reduce import REDUCERS
    from colreduce.rerank import RERANKERS
    from colreduce.transform import TRANSFORMS

    found: tuple[Mapping[str, type[Method]], ...] = (
        TRANSFORMS,
        REDUCERS,
        CODECS,
        QUERY_REDUCERS,
        FIRST_STAGES,
        FUSIONS,
        RERANKERS,
    )
    return dict(zip(STAGES, found, strict=True))


@dataclass(frozen=True, slots=True)
class Recipe:
    """One method, or several, for each stage. Stages that were not named hold their default."""

    methods: tuple[tuple[str, Method], ...]  # (stage, method), in the order of the stages

    @classmethod
    def parse(cls, given: Recipe | str | Path) -> Recipe:
        """Read a preset's name, a recipe line or a ``.toml`` file."""
        if isinstance(given, Recipe):
            return given
        if str(given).endswith(".toml"):
            return cls.from_toml(_read(Path(given)))
        line = PRESETS.get(str(given).strip(), str(given))
        return cls._arrange([_method(part) for part in _split(line)])

    @classmethod
    def from_dict(cls, stages: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` returned."""
        found: list[tuple[str, Method]] = []
        for stage, entries in stages.items():
            table = choose(tables(), stage, "stage")
            for entry in entries if isinstance(entries, list) else [entries]:
                if not isinstance(entry, Mapping) or "method" not in entry:
                    raise BadRecipe(f"{stage}: wanted a table with a 'method', got {entry!r}")
                parameters = {key: value for key, value in entry.items() if key != "method"}
                method = choose(table, str(entry["method"]), stage.replace("_", " "))
                found.append((stage, method.build(parameters)))
        return cls._arrange(found)

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read a recipe from TOML."""
        try:
            stages = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadRecipe(f"the recipe is not valid TOML: {error}") from error
        return cls.from_dict({key: value for key, value in stages.items() if key != "notes"})

    @classmethod
    def _arrange(cls, found: list[tuple[str, Method]]) -> Recipe:
        """Check the order and fill in the stages that were not named."""
        order = list(STAGES)
        for (before, first), (after, second) in itertools.pairwise(found):
            if order.index(before) > order.index(after):
                raise BadRecipe(
                    f"{second} ({after}) comes after {first} ({before}); "
                    f"the order is {' | '.join(order)}"
                )
            if before == after and not STAGES[before]:
                raise BadRecipe(f"{first} and {second}: a recipe has one {before}")
        for stage, default in DEFAULTS.items():
            if stage not in [name for name, _ in found]:
                found = [*found, (stage, tables()[stage][default]())]
        recipe = cls(tuple(sorted(found, key=lambda pair: order.index(pair[0]))))
        if len(recipe.first_stages) > 1 and recipe.fusion is None:
            names = ", ".join(str(method) for method in recipe.first_stages)
            raise BadRecipe(f"{names}: several first stages need a fusion, such as rrf, after them")
        return recipe

    def _of(self, stage: str) -> tuple[Any, ...]:
        return tuple(method for name, method in self.methods if name == stage)

    @property
    def transforms(self) -> tuple[Any, ...]:
        """Return the maps of single vectors, in order."""
        return self._of("transform")

    @property
    def reducers(self) -> tuple[Any, ...]:
        """Return the reducers, in order."""
        return self._of("reduce")

    @property
    def codec(self) -> Any:
        """Return the codec."""
        return self._of("codec")[0]

    @property
    def query_reducers(self) -> tuple[Any, ...]:
        """Return what makes queries smaller, in order."""
        return self._of("query")

    @property
    def first_stages(self) -> tuple[Any, ...]:
        """Return the first stages."""
        return self._of("first_stage")

    @property
    def fusion(self) -> Any | None:
        """Return how several first stages are joined."""
        return next(iter(self._of("fusion")), None)

    @property
    def reranker(self) -> Any:
        """Return the reranker."""
        return self._of("rerank")[0]

    def keyed(self) -> Iterator[tuple[str, Method]]:
        """Yield every method with a key that is unique in this recipe, such as ``reduce.0``."""
        seen: dict[str, int] = {}
        for stage, method in self.methods:
            yield f"{stage}.{seen.get(stage, 0)}", method
            seen[stage] = seen.get(stage, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: stage -> method and every parameter, defaults included."""
        stages: dict[str, Any] = {}
        for stage, method in self.methods:
            known = {k: v for k, v in method.parameters().items() if v is not None}
            entry = {"method": method.name, **known}
            if STAGES[stage]:
                stages.setdefault(stage, []).append(entry)
            else:
                stages[stage] = entry
        return stages

    def to_toml(self) -> str:
        """Write the recipe as TOML, with the parameters that differ from their defaults."""
        lines: list[str] = []
        for stage, method in self.methods:
            lines.append(f"[[{stage}]]" if STAGES[stage] else f"[{stage}]")
            lines.append(f'method = "{method.name}"')
            lines += [f"{key} = {_toml(value)}" for key, value in method.changed().items()]
            lines.append("")
        return "\n".join(lines)

    def __str__(self) -> str:
        return " | ".join(str(method) for _, method in self.methods)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadRecipe(f"there is no recipe file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"the recipe file {path} cannot be read: {error}") from error


def _split(line: str) -> list[str]:
    """Split a recipe line at the bars that stand outside double quotes."""
    parts = [part.strip() for part in re.split(r'\|(?=(?:[^"]*"[^"]*")*[^"]*$)', line)]
    if not all(parts):
        raise BadRecipe(
            f"{line!r} is not a recipe: a stage is empty. Wanted a preset ({', '.join(PRESETS)}), "
            "a .toml file, or a line such as 'ward(factor=8) | int8'."
        )
    return parts


def read_methods(line: str, table: Mapping[str, type[Method]], kind: str) -> list[Any]:
    """Read a line of methods that all come from one table; ``kind`` says what it holds."""
    found = []
    for part in _split(line):
        name, inside = _named(part)
        found.append(choose(table, name, kind).build(_arguments(name, inside)))
    return found


def _named(part: str) -> tuple[str, str]:
    """Split one ``name(key=value, ...)``."""
    match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)\s*(?:\((.*)\))?", part, re.DOTALL)
    if match is None:
        raise BadRecipe(f"cannot read {part!r}; wanted name or name(key=value, ...)")
    return match.group(1), match.group(2) or ""


def _method(part: str) -> tuple[str, Method]:
    """Read one ``name(key=value, ...)``."""
    name, inside = _named(part)
    for stage, table in tables().items():
        if name in table:
            return stage, table[name].build(_arguments(name, inside))
    every = [known for table in tables().values() for known in table]
    raise UnknownName(f"no method is called {name!r}.{hint(name, [*every, *PRESETS])}")


def _arguments(name: str, inside: str) -> dict[str, Any]:
    """Read keyword arguments: numbers, quoted strings, bare words, true, false."""
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
    except SyntaxError as error:
        raise BadRecipe(f"cannot read the parameters of {name}({inside})") from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise BadRecipe(f"cannot read the parameters of {name}({inside})")
    if call.args:
        raise BadRecipe(f"{name}({inside}): parameters go by keyword, such as {name}(key=value)")
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise BadRecipe(f"{name}({inside}): a parameter is given twice")
        values[keyword.arg] = _value(keyword.value, f"{name}({inside})")
    return values


def _value(node: ast.expr, where: str) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "none": None}.get(node.id.lower(), node.id)
    try:
        value = ast.literal_eval(node)
    except ValueError as error:
        raise BadRecipe(f"{where}: cannot read the value {ast.unparse(node)!r}") from error
    if not isinstance(value, (int, float, str)):
        raise BadRecipe(f"{where}: wanted a number, a word or true/false, got {value!r}")
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (int, float)):
        return repr(value)
    raise BadInput(f"{value!r} cannot stand in a recipe")
