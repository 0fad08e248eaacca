"""First stages: the few documents worth an exact score."""

from __future__ import annotations

from colreduce.candidates.base import FirstStage
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.method import Method

FIRST_STAGES: dict[str, type[FirstStage]] = {
    "exhaustive": Exhaustive,
}

FUSIONS: dict[str, type[Method]] = {}
