"""What an encoder must be: text in, token vectors out, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from colreduce.ragged import Ragged


class Encoder(Protocol):
    """Turns documents and queries into token vectors."""

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return what tells this model from another; vectors of two identities never mix."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return the number of every token of the tokenizer; empty when there is no tokenizer."""

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        """Encode documents in their order, some batches at a time; never all at once."""

    def queries(self, texts: Sequence[str], batch_size: int = 32) -> list[Tensor]:
        """Encode queries: one [q, d] float32 tensor each, on the CPU."""

    def describe(self) -> str:
        """Say in one line what kind of model this is and how it is used."""
