"""Filters on metadata: equal, one of, ranges, exists, and, or, not.

As JSON, a mapping of fields to what is wanted of them; all of it must hold:

    {"year": {"gte": 2019, "lt": 2024}, "lang": ["en", "de"], "not": {"draft": true}}

As one line:

    year >= 2019 and year < 2024 and lang in (en, de) and not draft = true

A field inside a field is written with a dot: ``author.name``. A list matches when one of its
members does. A document without the field matches nothing but ``exists: false`` and ``not``;
``ne`` is the opposite of ``eq``, so it holds for such a document. Numbers are compared as numbers,
strings as strings, by code point, so dates in ISO form sort as they should. The reading of the
two forms is here; `Columns` answers for a whole segment at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from colreduce.choose import hint
from colreduce.errors import BadInput

Value: TypeAlias = "str | float | int | bool"

RANGES = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
SIGNS = {sign: word for word, sign in RANGES.items()}
OPERATORS = ("eq", "ne", "in", "exists", *RANGES)
MAX_DEPTH = 16
MAX_VALUES = 10_000


class BadFilter(BadInput):
    """A filter cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="filter")


@dataclass(frozen=True, slots=True)
class In:
    """The field has one of these values."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field stands in this relation (lt, lte, gt, gte) to a value of its own kind."""

    field: str
    relation: str
    value: Value


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there and not null."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: Filter


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; true when there are none."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One part holds at least; false when there are none."""

    parts: tuple[Filter, ...]


Filter: TypeAlias = "In | Range | Exists | Not | And | Or"


def parse(given: Filter | Mapping[str, Any] | str) -> Filter:
    """Read a filter from JSON's values or from one line."""
    if isinstance(given, (In, Range, Exists, Not, And, Or)):
        return given
    if isinstance(given, str):
        return _Line(given).read()
    return _from_mapping(given, 0)


def _from_mapping(given: Any, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise BadFilter(f"the filter is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(given, Mapping):
        raise BadFilter(f"wanted a mapping of fields, got {given!r}")
    parts: list[Filter] = []
    for key, wanted in given.items():
        if key in ("and", "or"):
            if not isinstance(wanted, Sequence) or isinstance(wanted, str):
                raise BadFilter(f"{key!r} wants a list of filters, got {wanted!r}")
            inner = tuple(_from_mapping(part, depth + 1) for part in wanted)
            parts.append(And(inner) if key == "and" else Or(inner))
        elif key == "not":
            parts.append(Not(_from_mapping(wanted, depth + 1)))
        else:
            parts += _conditions(str(key), wanted)
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _conditions(field: str, wanted: Any) -> Iterator[Filter]:
    """Read what is wanted of one field: a value, a list of values, or operators."""
    if not isinstance(wanted, Mapping):
        yield In(field, _values(field, wanted if isinstance(wanted, (list, tuple)) else [wanted]))
        return
    for name, value in wanted.items():
        if name in RANGES:
            yield Range(field, name, _values(field, [value])[0])
        elif name == "eq":
            yield In(field, _values(field, [value]))
        elif name == "ne":
            yield Not(In(field, _values(field, [value])))
        elif name == "in" and isinstance(value, (list, tuple)):
            yield In(field, _values(field, value))
        elif name == "exists" and isinstance(value, bool):
            yield Exists(field) if value else Not(Exists(field))
        elif name in OPERATORS:
            raise BadFilter(f"{field}: {name!r} cannot take {value!r}")
        else:
            raise BadFilter(f"{field}: no operator is called {name!r}.{hint(name, OPERATORS)}")


def _values(field: str, given: Iterable[Any]) -> tuple[Value, ...]:
    values = tuple(given)
    if len(values) > MAX_VALUES:
        raise BadFilter(f"{field}: {len(values)} values; at most {MAX_VALUES} are taken")
    for value in values:
        if not isinstance(value, (str, int, float)) or value != value:
            raise BadFilter(f"{field}: wanted strings, numbers or true/false, got {value!r}")
    return values


TOKEN = re.compile(
    r"""\s*(?: (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
             | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.-]))
             | (?P<sign><=|>=|!=|==|=|<|>|\(|\)|,)
             | (?P<word>[^\s<>=!(),"']+) )""",
    re.VERBOSE,
)


class _Line:
    """Reads the one-line form: or, then and, then not, then a comparison."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while line[place:].strip():
            match = TOKEN.match(line, place)
            if match is None:
                raise BadFilter(f"cannot read the filter from {line[place:].strip()[:40]!r} on")
            self._tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            place = match.end()
        self._at = 0

    def read(self) -> Filter:
        if not self._tokens:
            raise BadFilter("the filter is empty")
        found = self._any(0)
        if self._at < len(self._tokens):
            raise self._unexpected("and, or, or the end")
        return found

    def _any(self, depth: int) -> Filter:
        parts = [self._all(depth)]
        while self._word("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, depth: int) -> Filter:
        parts = [self._one(depth)]
        while self._word("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise BadFilter(f"the filter is nested deeper than {MAX_DEPTH} levels")
        if self._word("not"):
            return Not(self._one(depth + 1))
        if self._sign("("):
            inner = self._any(depth + 1)
            self._expect(")")
            return inner
        kind, field = self._next("a field")
        if kind not in ("word", "string"):
            self._at -= 1
            raise self._unexpected("a field")
        field = field if kind == "word" else _unquoted(field)
        if kind == "word" and field == "exists" and self._sign("("):
            _, name = self._next("a field")
            self._expect(")")
            return Exists(name if name[0] not in "\"'" else _unquoted(name))
        return self._comparison(field)

    def _comparison(self, field: str) -> Filter:
        if self._word("not"):
            if not self._word("in"):
                raise self._unexpected("in")
            return Not(In(field, self._list(field)))
        if self._word("in"):
            return In(field, self._list(field))
        kind, sign = self._next("=, !=, <, <=, >, >= or in")
        if kind != "sign" or sign in "(),":
            self._at -= 1
            raise self._unexpected("=, !=, <, <=, >, >= or in")
        value = self._value()
        if sign in SIGNS:
            return Range(field, SIGNS[sign], value)
        return Not(In(field, (value,))) if sign == "!=" else In(field, (value,))

    def _list(self, field: str) -> tuple[Value, ...]:
        self._expect("(")
        values = [self._value()]
        while self._sign(","):
            values.append(self._value())
        self._expect(")")
        return _values(field, values)

    def _value(self) -> Value:
        kind, text = self._next("a value")
        if kind == "string":
            return _unquoted(text)
        if kind == "number":
            return float(text) if re.search(r"[.eE]", text) else int(text)
        if kind == "word":
            return {"true": True, "false": False}.get(text.lower(), text)
        self._at -= 1
        raise self._unexpected("a value")

    def _next(self, wanted: str) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise self._unexpected(wanted)
        self._at += 1
        return self._tokens[self._at - 1]

    def _sign(self, sign: str) -> bool:
        return self._take(lambda token: token == ("sign", sign))

    def _word(self, word: str) -> bool:
        return self._take(lambda token: token[0] == "word" and token[1].lower() == word)

    def _take(self, fits: Callable[[tuple[str, str]], bool]) -> bool:
        found = self._at < len(self._tokens) and fits(self._tokens[self._at])
        self._at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._sign(sign):
            raise self._unexpected(repr(sign))

    def _unexpected(self, wanted: str) -> BadFilter:
        ended = self._at >= len(self._tokens)
        got = "the end" if ended else repr(self._tokens[self._at][1])
        return BadFilter(f"in the filter {self._line[:80]!r}: wanted {wanted}, got {got}")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


class Columns:
    """The metadata of one segment by field, so that a filter is answered for all rows at once.

    Each field holds its values as (row, value) pairs, numbers, truth values and strings apart:
    a list gives several pairs for its row. Nothing is kept of a null.
    """

    def __init__(self, metadata: Iterable[Mapping[str, Any]]) -> None:
        pairs: dict[str, dict[str, tuple[list[int], list[Any]]]] = {}
        self.rows = 0
        for row, entry in enumerate(metadata):
            self.rows = row + 1
            for field, value in _flat(entry, ""):
                kind = _kind(value)
                rows, values = pairs.setdefault(field, {}).setdefault(kind, ([], []))
                rows.append(row)
                values.append(value)
        self._fields = {
            field: {kind: _Column(rows, values) for kind, (rows, values) in kinds.items()}
            for field, kinds in pairs.items()
        }

    def mask(self, wanted: Filter) -> NDArray[np.bool_]:
        """Say of every row whether it matches."""
        if isinstance(wanted, And):
            return self._joined(np.logical_and, wanted.parts, empty=True)
        if isinstance(wanted, Or):
            return self._joined(np.logical_or, wanted.parts, empty=False)
        if isinstance(wanted, Not):
            return ~self.mask(wanted.part)
        found = np.zeros(self.rows, dtype=bool)
        for kind, column in self._fields.get(wanted.field, {}).items():
            if isinstance(wanted, Exists):
                found[column.rows] = True
            elif isinstance(wanted, In):
                same = {value for value in wanted.values if _kind(value) == kind}
                found[column.rows[column.one_of(same)]] = True
            elif _kind(wanted.value) == kind:
                found[column.rows[column.compare(wanted.relation, wanted.value)]] = True
        return found

    def _joined(self, join: Any, parts: Sequence[Filter], *, empty: bool) -> NDArray[np.bool_]:
        found = np.full(self.rows, empty, dtype=bool)
        for part in parts:
            join(found, self.mask(part), out=found)
        return found


class _Column:
    """The values of one kind that one field has; each distinct value is stored once."""

    def __init__(self, rows: list[int], values: list[Any]) -> None:
        numbers: dict[Any, int] = {}
        self.codes = np.array([numbers.setdefault(value, len(numbers)) for value in values])
        self.rows = np.array(rows, dtype=np.int64)
        self._numbers = numbers

    def one_of(self, values: set[Any]) -> NDArray[np.bool_]:
        """Say of every pair whether its value is one of these."""
        return np.isin(self.codes, [self._numbers[one] for one in values if one in self._numbers])

    def compare(self, relation: str, value: Any) -> NDArray[np.bool_]:
        """Say of every pair whether its value stands in the relation to ``value``."""
        holds: dict[str, Callable[[Any], bool]] = {
            "lt": lambda one: one < value,
            "lte": lambda one: one <= value,
            "gt": lambda one: one > value,
            "gte": lambda one: one >= value,
        }
        return np.array([holds[relation](one) for one in self._numbers], dtype=bool)[self.codes]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "number"


def _flat(entry: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    """Yield every value of a document's metadata with the path of its field."""
    for key, value in entry.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, Mapping):
                yield from _flat(one, f"{prefix}{key}.")
            elif isinstance(one, (str, int, float)) and one == one:
                yield f"{prefix}{key}", one
