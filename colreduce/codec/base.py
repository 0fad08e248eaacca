"""What a codec must be: vectors to stored arrays and back, and products straight from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from colreduce.method import Method, State
from colreduce.ragged import Ragged

# Named arrays whose first axis is the token: what a segment stores for its vectors.
Codes: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Codec(Method):
    """How vectors lie on disk."""

    def fit(self, sample: Ragged, *, seed: int) -> State:
        """Learn codebooks from a sample of reduced documents."""
        return {}

    @abstractmethod
    def encode(self, tokens: Tensor, state: State) -> Codes:
        """Turn ``tokens`` [t, d] float32 into arrays of t rows each."""

    @abstractmethod
    def decode(self, codes: Codes, state: State) -> Tensor:
        """Turn the arrays back into ``[t, d]`` float32."""

    def similarities(self, query: Tensor, codes: Codes, state: State) -> Tensor:
        """Return the products of ``query`` [q, d] with every stored vector: [q, t] float32."""
        return query @ self.decode(codes, state).T

    @abstractmethod
    def bytes_per_vector(self, dim: int) -> float:
        """Return the exact bytes one vector takes, codebooks apart."""

    @abstractmethod
    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """Bound how far a document's score can be from that of the vectors that were encoded.

        Computed from the query [q, d], the stored codes of one document and what the codec
        learned; not an estimate.
        """
