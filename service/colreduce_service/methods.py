"""What every method of ours needs: a table that the guard reads.

A lane is a group of methods that share their places, so that none of the groups can starve
another: searches go on while somebody writes, and collections can be looked at however many
searches wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["read", "write", "admin"]
Lane: TypeAlias = Literal["search", "write", "look", "upkeep"]

ROLES: tuple[Role, ...] = ("read", "write", "admin")  # each may also do what those before it may

# A request without a deadline gets this one; only what takes long by nature gets more.
MOST_SECONDS = 30.0
LONG_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What one method needs."""

    lane: Lane
    role: Role
    seconds: float = MOST_SECONDS  # no request gets more


_PACKAGE = "/colreduce.rpc.v1."

RULES: dict[str, Rule] = {
    f"{_PACKAGE}Search/Search": Rule("search", "read"),
    f"{_PACKAGE}Search/BatchSearch": Rule("search", "read"),
    f"{_PACKAGE}Search/Get": Rule("search", "read"),
    f"{_PACKAGE}Search/Explain": Rule("search", "read"),
    f"{_PACKAGE}Write/Upsert": Rule("write", "write", LONG_SECONDS),
    f"{_PACKAGE}Write/Delete": Rule("write", "write"),
    f"{_PACKAGE}Admin/ListCollections": Rule("look", "read"),
    f"{_PACKAGE}Admin/Describe": Rule("look", "read"),
    f"{_PACKAGE}Admin/CreateCollection": Rule("upkeep", "admin", LONG_SECONDS),
    f"{_PACKAGE}Admin/Compact": Rule("upkeep", "admin", LONG_SECONDS),
    f"{_PACKAGE}Admin/Snapshot": Rule("upkeep", "admin", LONG_SECONDS),
    f"{_PACKAGE}Admin/DropCollection": Rule("upkeep", "admin", LONG_SECONDS),
}
