"""First stages: the few documents worth an exact score."""

from __future__ import annotations

from colreduce.candidates.base import FirstStage, Fusion
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.candidates.fde import Fde
from colreduce.candidates.mean import Mean

FIRST_STAGES: dict[str, type[FirstStage]] = {
    "exhaustive": Exhaustive,
    "fde": Fde,
    "mean": Mean,
}

FUSIONS: dict[str, type[Fusion]] = {}
