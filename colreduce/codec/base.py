"""What a codec must be: vectors to stored arrays and back, and products straight from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from colreduce.method import Method, State
from colreduce.ragged import Ragged

# Named arrays whose first axis is the token: what a segment stores for its vectors.
Codes: TypeAlias = Mapping[str, Tensor]

# Decoded numbers held at a time while they are multiplied: 2 MB, or 256 MB on a GPU.
PIECE, PIECE_ON_DEVICE = 1 << 19, 1 << 26


@dataclass(frozen=True, kw_only=True)
class Codec(Method):
    """How vectors lie on disk."""

    on_device = True

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
        """Return the products of ``query`` [q, d] with every stored vector: [q, t] float32.

        Decoded in pieces that stay in the cache, which is as fast as vectors that were never
        encoded; laid out vector by vector, as `colreduce.maxsim` reads them fastest.
        """
        columns = query.float().T.contiguous()
        count = len(next(iter(codes.values())))
        found = columns.new_empty(count, len(query))
        piece = PIECE if columns.device.type == "cpu" else PIECE_ON_DEVICE
        step = min(max(1, piece // len(columns)), max(1, count))
        # One room for all pieces: fresh memory costs as much as decoding.
        room = columns.new_empty(step, len(columns))
        for start in range(0, count, step):
            part = {name: array[start : start + step] for name, array in codes.items()}
            out = found[start : start + step]
            self._multiply(part, columns, state, out, room[: len(out)])
        return found.T

    def rows(self, codes: Codes) -> tuple[Tensor, Tensor | None] | None:
        """Return codes that are numbers to be multiplied, and a scale for each row if they have
        one; None where codes are anything else.
        """
        return None

    def _multiply(
        self, codes: Codes, columns: Tensor, state: State, out: Tensor, room: Tensor
    ) -> None:
        """Write the products of t vectors with ``columns`` [d, q] into ``out`` [t, q].

        ``room`` [t, d] is float32 to work in.
        """
        torch.mm(self.decode(codes, state), columns, out=out)

    @abstractmethod
    def bytes_per_vector(self, dim: int) -> float:
        """Return the exact bytes one vector takes, codebooks apart."""

    @abstractmethod
    def error_bound(self, query: Tensor, codes: Codes, state: State) -> float:
        """Bound how far a document's score can be from that of the vectors that were encoded.

        Computed from the query [q, d], the stored codes of one document and what the codec
        learned; not an estimate. The rounding of float32 arithmetic comes on top.
        """
