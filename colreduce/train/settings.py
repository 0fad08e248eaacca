"""How long and how a model is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from colreduce.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how a model is trained. ``steps`` counts, or ``epochs`` where it is None.

    negatives     wrong documents for each query beside the rest of its batch, found by search
    every         steps between two checkpoints, which are also when a model is evaluated
    query_tokens  how many tokens of a query are read in training
    max_tokens    how many tokens of a document are read; None for as many as the model reads
    stop_after    end the run here, to be gone on with later; the schedule is that of all steps
    """

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 32
    rate: float = 3e-5
    warm_up: float = 0.1
    negatives: int = 0
    every: int = 500
    query_tokens: int = 64
    max_tokens: int | None = None
    seed: int = 0
    stop_after: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "rate", "warm_up"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise BadInput(f"{name} is {value}; wanted a finite number", field=name)
        if self.batch_size < 2 and self.negatives == 0:
            raise BadInput(
                "a batch of one query has no wrong document to learn from; wanted batch_size of 2 "
                "or more, or negatives",
                field="batch_size",
            )

    def all_steps(self, examples: int) -> int:
        """Return how many steps a whole training takes."""
        return self.steps or max(int(self.epochs * (examples // self.batch_size)), 1)

    def lasting(self) -> dict[str, Any]:
        """Return what must be the same when a training is gone on with."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["stop_after"]
        return values
