"""What an encoder must be: text in, token vectors out, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from colreduce.ragged import Ragged

if TYPE_CHECKING:
    from PIL.Image import Image

# What the identity of an encoder of pages says that it is.
PAGES = "late-interaction model of pages"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one vector of a text stands for.

    text     the token as the tokenizer writes it
    span     where it stands in the text, in characters: start and end; None for a token that the
             encoder adds, such as [CLS], a prompt or a mask that expands a query
    special  whether it marks something instead of standing for a part of the text
    """

    text: str
    span: tuple[int, int] | None
    special: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as the encoder read it: its vectors, one item, and what each stands for."""

    vectors: Ragged
    pieces: Sequence[Piece]


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


@runtime_checkable
class PageEncoder(Protocol):
    """An encoder whose documents are pages, read as pictures."""

    def pages(self, pictures: Iterable[Image], batch_size: int = 4) -> Iterator[Ragged]:
        """Encode pages in their order, a few at a time, with the grid of each."""


def reads_pages(encoder: Encoder) -> bool:
    """Say whether an encoder's documents are pages; it then has what a `PageEncoder` has."""
    return encoder.identity.get("kind") == PAGES


@runtime_checkable
class Reader(Protocol):
    """An encoder that also says what it read, so that hits can be explained in words."""

    def read(self, text: str, *, query: bool = False) -> Reading | None:
        """Encode one text and say what each of its vectors stands for; None when unknown."""
