"""Where evaluations keep things, and how they tell of progress."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

# What is being done, how much of it is done, and how much there is (0 when nobody knows).
Progress: TypeAlias = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Take no notice of progress."""


def cache_folder() -> Path:
    """Return where embeddings and results are kept."""
    named = os.environ.get("COLREDUCE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "colreduce"
