from __future__ import annotations

from dataclasses import dataclass

import pytest

from colreduce.choose import choose
from colreduce.errors import BadParameter, UnknownName
from colreduce.method import Method, parameter


@dataclass(frozen=True, kw_only=True)
class Sample(Method):
    """A method for these tests."""

    name = "sample"
    width: int = parameter(8, "a whole number", low=1, high=64)
    share: float | None = parameter(None, "a share", above=0, high=1)
    mode: str = parameter("plain", "a word", choices=("plain", "fancy"))
    on: bool = parameter(True, "a switch", shown=True)


def test_numbers_take_the_type_that_was_declared():
    assert Sample(width=4.0).width == 4
    assert isinstance(Sample(share=1).share, float)


def test_the_text_names_what_differs_and_what_is_always_shown():
    assert str(Sample()) == "sample(on=true)"
    assert str(Sample(share=0.5, mode="fancy")) == 'sample(share=0.5, mode="fancy", on=true)'


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"width": 0}, "at least 1"),
        ({"width": 65}, "at most 64"),
        ({"width": 1.5}, "wanted int, got float"),
        ({"width": True}, "wanted int, got bool"),
        ({"share": 0.0}, "more than 0"),
        ({"share": float("nan")}, "finite"),
        ({"mode": "fance"}, "Did you mean 'fancy'"),
        ({"on": 1}, "wanted bool, got int"),
    ],
)
def test_values_out_of_range_are_refused(parameters, words):
    with pytest.raises(BadParameter, match=words):
        Sample(**parameters)


def test_choosing_suggests_the_right_spelling():
    assert choose({"ward": 1, "window": 2}, "ward", "reducer") == 1
    with pytest.raises(UnknownName, match=r"no reducer is called 'windw'\. Did you mean 'window'"):
        choose({"ward": 1, "window": 2}, "windw", "reducer")
