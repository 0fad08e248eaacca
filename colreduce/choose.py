"""Find something by its name, and suggest the right spelling when there is no such name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from colreduce.errors import UnknownName

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``table[name]``; ``kind`` says what the table holds, for the message."""
    if name in table:
        return table[name]
    raise UnknownName(f"no {kind} is called {name!r}.{hint(name, table)}")


def hint(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, then list them all."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return f"{guess} Known: {', '.join(names)}." if names else guess
