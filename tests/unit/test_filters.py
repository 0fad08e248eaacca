from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colreduce.filters import And, BadFilter, Columns, Exists, In, Not, Or, Range, parse

DOCUMENTS: list[dict[str, Any]] = [
    {"year": 2018, "lang": "en", "tags": ["a", "b"], "draft": False},
    {"year": 2020, "lang": "de", "tags": ["b"], "draft": True},
    {"year": 2023.5, "lang": "fr", "author": {"name": "Ada", "born": 1815}},
    {},
    {"year": "2020", "lang": None, "date": "2024-03-01"},
]


def rows(wanted: Any) -> list[int]:
    return Columns(DOCUMENTS).mask(parse(wanted)).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("mapping", "line", "expected"),
    [
        ({"lang": "en"}, "lang = en", [0]),
        ({"lang": ["en", "de"]}, "lang in (en, 'de')", [0, 1]),
        ({"lang": {"ne": "en"}}, "lang != en", [1, 2, 3, 4]),
        ({"year": {"gte": 2020}}, "year >= 2020", [1, 2]),
        ({"year": {"gt": 2018, "lt": 2021}}, "year > 2018 and year < 2021", [1]),
        ({"year": 2020}, "year == 2020", [1]),
        ({"year": "2020"}, 'year = "2020"', [4]),
        ({"draft": True}, "draft = true", [1]),
        ({"draft": 1}, "draft = 1", []),
        ({"tags": "b"}, "tags = b", [0, 1]),
        ({"author.name": "Ada"}, "author.name = Ada", [2]),
        ({"author": {"exists": True}}, "exists(author)", []),
        ({"author.born": {"exists": True}}, "exists(author.born)", [2]),
        ({"lang": {"exists": False}}, "not exists(lang)", [3, 4]),
        ({"date": {"gte": "2024-01-01"}}, "date >= '2024-01-01'", [4]),
        ({"date": {"lt": "2024-02-01"}}, "date < 2024-02-01", []),
        ({"not": {"lang": ["en", "de"]}}, "lang not in (en, de)", [2, 3, 4]),
        (
            {"or": [{"lang": "fr"}, {"and": [{"lang": "en"}, {"draft": False}]}]},
            "lang = fr or lang = en and draft = false",
            [0, 2],
        ),
        (
            {"and": [{"or": [{"lang": "fr"}, {"lang": "en"}]}, {"year": {"lte": 2018}}]},
            "(lang = fr or lang = en) and year <= 2018",
            [0],
        ),
        ({}, "not (lang = en and lang = de)", [0, 1, 2, 3, 4]),
        ({"nobody": "x"}, "nobody = x", []),
    ],
)
def test_both_forms_say_the_same(mapping, line, expected):
    assert rows(mapping) == expected
    assert rows(line) == expected


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("", "empty"),
        ("year >", "wanted a value, got the end"),
        ("year 2020", "wanted =, !="),
        ("(year = 1", r"wanted '\)', got the end"),
        ("year = 1 lang = 2", "wanted and, or, or the end"),
        ("lang in en", r"wanted '\('"),
        ("= 3", "wanted a field"),
        ("a = 'open", "cannot read the filter"),
        ("a not b", "wanted in"),
        ("not " * 40 + "a = 1", "nested deeper"),
        ({"year": {"gte": None}}, "wanted strings, numbers"),
        ({"year": {"gtt": 3}}, "Did you mean 'gt'"),
        ({"year": {"in": "x"}}, "cannot take 'x'"),
        ({"year": {"exists": "yes"}}, "cannot take 'yes'"),
        ({"or": {"a": 1}}, "wants a list"),
        ({"not": [1]}, "wanted a mapping"),
        ([1], "wanted a mapping"),
        ({"a": [{"b": 1}]}, "wanted strings, numbers"),
        ({"a": list(range(10_001))}, "at most 10000"),
    ],
)
def test_a_mistake_is_explained(wanted, words):
    with pytest.raises(BadFilter, match=words) as caught:
        parse(wanted)
    assert caught.value.field == "filter"


def slow(wanted: Any, entry: dict[str, Any]) -> bool:
    """The definition, one document at a time."""
    if isinstance(wanted, And):
        return all(slow(part, entry) for part in wanted.parts)
    if isinstance(wanted, Or):
        return any(slow(part, entry) for part in wanted.parts)
    if isinstance(wanted, Not):
        return not slow(wanted.part, entry)
    value = entry.get(wanted.field)
    members = [one for one in (value if isinstance(value, list) else [value]) if one is not None]
    if isinstance(wanted, Exists):
        return bool(members)
    if isinstance(wanted, In):
        return any(one in wanted.values for one in members)
    signs = {"lt": "__lt__", "lte": "__le__", "gt": "__gt__", "gte": "__ge__"}
    kind = str if isinstance(wanted.value, str) else (int, float)
    return any(
        isinstance(one, kind) and getattr(one, signs[wanted.relation])(wanted.value) is True
        for one in members
    )


FIELDS = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.integers(-3, 3), st.sampled_from(["x", "y", "z"]))
LEAVES = st.one_of(
    st.builds(In, FIELDS, st.lists(VALUES, max_size=3).map(tuple)),
    st.builds(Range, FIELDS, st.sampled_from(["lt", "lte", "gt", "gte"]), VALUES),
    st.builds(Exists, FIELDS),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
ENTRIES = st.dictionaries(FIELDS, st.one_of(VALUES, st.none(), st.lists(VALUES, max_size=3)))


@given(FILTERS, st.lists(ENTRIES, max_size=6))
def test_columns_answer_like_the_definition(wanted, entries):
    expected = [slow(wanted, entry) for entry in entries]
    assert Columns(entries).mask(wanted).tolist() == expected
