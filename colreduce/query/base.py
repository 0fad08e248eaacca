"""What a query reducer must be."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from colreduce.method import Method


@dataclass(frozen=True, kw_only=True)
class QueryReducer(Method):
    """Makes a query smaller before it is compared with anything."""

    @abstractmethod
    def shrink(self, query: Tensor) -> Tensor:
        """Map the query's vectors [q, d] to [q', d], 1 <= q' <= q."""
