"""What a transform must be: a map of single vectors, the same for documents and queries."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from colreduce.method import Method, State
from colreduce.ragged import Ragged


@dataclass(frozen=True, kw_only=True)
class Transform(Method):
    """Changes every vector by itself, before anything is reduced."""

    on_device = True

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Learn from a sample of documents what `apply` needs."""
        return {}

    @abstractmethod
    def apply(self, tokens: Tensor, state: State) -> Tensor:
        """Map ``tokens`` [t, d] to [t, d'], float32, unit length when the input was."""

    def width(self, dim: int) -> int:
        """Return how wide vectors of width ``dim`` are afterwards."""
        return dim
