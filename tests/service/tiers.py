"""How much the tests of promises do: a little with every run, much in the nightly tier.

    COLREDUCE_TIER=nightly COLREDUCE_FIGURES=figures.jsonl \\
        python -m pytest tests/service/test_load.py tests/service/test_replicas.py

The second variable names a file to which the figures are added, one line for each test.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, TypeVar

T = TypeVar("T")

NIGHTLY = os.environ.get("COLREDUCE_TIER") == "nightly"


def size(usual: T, nightly: T) -> T:
    """Return how much of something there is in this tier."""
    return nightly if NIGHTLY else usual


def note(promise: str, what: str, **figures: Any) -> None:
    """Keep what a test has measured, if somebody asked for it."""
    if file := os.environ.get("COLREDUCE_FIGURES"):
        day = time.strftime("%Y-%m-%d", time.gmtime())
        tier = size("usual", "nightly")
        line = {"promise": promise, "what": what, "tier": tier, "day": day, **figures}
        with open(file, "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
