"""What a source must be: documents that can be read more than once, some at a time, from anywhere.

Everything in a source is a record, and records are numbered from 0 in their order. One that cannot
be used is told as `Bad`, and the reading goes on behind it; only what breaks off the reading
itself, such as a packed file that is cut short, is an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from colreduce.embed.pages import Page
from colreduce.errors import BadInput
from colreduce.ragged import Ragged
from colreduce.store.layout import checked_id, checked_metadata

# Records that a source hands out together, at most.
TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be used: its number, where it stands, and why."""

    number: int
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Documents:
    """Some documents in their order: texts with metadata, pages, or vectors.

    numbers   the number of each among all records of the source
    places    where each stands, for people
    pages     where the page is that each of them is; None for what is no page
    pictures  a thumbnail of each page, once it was drawn
    """

    ids: Sequence[str]
    numbers: Sequence[int]
    places: Sequence[str]
    texts: Sequence[str] | None = None
    metadata: Sequence[Mapping[str, Any]] | None = None
    vectors: Ragged | None = None
    pages: Sequence[Page | None] | None = None
    pictures: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: slice | Sequence[int]) -> Documents:
        """Return some of them."""
        kept = range(len(self))[rows] if isinstance(rows, slice) else rows
        if len(kept) == len(self):
            return self

        def some(values: Sequence[Any] | None) -> Any:
            if isinstance(rows, slice):
                return None if values is None else values[rows]
            return None if values is None else [values[row] for row in rows]

        wanted = rows if isinstance(rows, slice) else torch.tensor(rows, dtype=torch.long)
        vectors = None if self.vectors is None else self.vectors.take(wanted)
        first = (some(self.ids), some(self.numbers), some(self.places))
        more = (some(self.pages), some(self.pictures))
        return Documents(*first, some(self.texts), some(self.metadata), vectors, *more)

    @staticmethod
    def joined(parts: Sequence[Documents]) -> Documents:
        """Lay some of one source end to end."""
        if len(parts) == 1:
            return parts[0]

        def all_of(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else list(itertools.chain.from_iterable(values))

        vectors = [part.vectors for part in parts if part.vectors is not None]
        first = (all_of("ids"), all_of("numbers"), all_of("places"))
        return Documents(
            *first,
            all_of("texts"),
            all_of("metadata"),
            Ragged.concat(vectors) if vectors else None,
            all_of("pages"),
            all_of("pictures"),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read together: documents, and the records among them that cannot be used."""

    documents: Documents
    bad: Sequence[Bad] = field(default_factory=tuple)


class Source(Protocol):
    """Documents that can be read more than once."""

    @property
    def name(self) -> str:
        """Return the name that people know it by."""

    @property
    def vectors(self) -> bool:
        """Say whether it holds vectors, so that nothing is to be encoded."""

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Yield everything from record ``start`` on, in order, some records at a time."""

    def state(self) -> list[list[Any]] | None:
        """Return what shows cheaply whether the source has changed; None if nothing does."""


@dataclass(frozen=True, slots=True)
class PageRecord:
    """A page that is a document, with the text that its file holds for it."""

    id: str
    text: str
    metadata: Mapping[str, Any]
    page: Page | None


def texts_batch(records: Iterable[tuple[int, str, Any]]) -> Batch:
    """Make a batch of (number, place, record or what is wrong with it)."""
    pages: list[Page | None] = []
    ids: list[str] = []
    numbers, places, texts = [], [], []
    told: list[Mapping[str, Any]] = []
    bad = []
    for number, place, record in records:
        reason = record if isinstance(record, str) else unusable(record)
        if reason:
            bad.append(Bad(number, place, reason))
            continue
        ids.append(record.id)
        numbers.append(number)
        places.append(place)
        texts.append(record.text)
        told.append(record.metadata)
        if isinstance(record, PageRecord):
            pages.append(record.page)
    return Batch(Documents(ids, numbers, places, texts, told, pages=pages or None), bad)


def unusable(record: Any) -> str:
    """Say why a record of text cannot go into an index; nothing if it can."""
    try:
        checked_id(record.id)
        if not record.id.isprintable():
            return f"the id {record.id!r} holds a character that cannot be printed"
        checked_metadata(record.id, record.metadata)
        record.text.encode()
    except UnicodeEncodeError:
        return f"the text of {record.id!r} is not valid Unicode"
    except BadInput as problem:
        return str(problem).removesuffix(".")
    return ""


def in_batches(items: Iterable[tuple[int, str, Any]]) -> Iterator[Batch]:
    """Yield batches of (number, place, record or what is wrong with it)."""
    stream = iter(items)
    while some := list(itertools.islice(stream, TOGETHER)):
        yield texts_batch(some)
