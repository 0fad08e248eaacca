"""What an index can be built from: documents or vectors, streamed and never held whole.

A source is read twice. The first time everything in it is checked, counted, and a sample is drawn
for the methods that learn; so a file that is damaged at its end is found before anything is
written. The second time the documents go into the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from colreduce.embed import Encoder
from colreduce.embed.precomputed import SUFFIXES, vector_batches
from colreduce.errors import BadData, BadInput
from colreduce.evaluate.beir import BeirFolder
from colreduce.evaluate.records import Record, records
from colreduce.evaluate.sample import SAMPLE, chunks, reservoir
from colreduce.ragged import Ragged

# Batches of the encoder that go into the index together: enough to sort texts by length.
WINDOW = 16

# Documents of a vector file that are read together.
VECTOR_CHUNK = 512

# Told after every so many documents of the first reading.
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some documents, ready to be added."""

    ids: Sequence[str]
    vectors: Ragged
    texts: Sequence[str] | None = None
    metadata: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What the first reading found: how many documents, and a sample of them."""

    documents: int
    sample: Ragged
    ids: Sequence[str]
    texts: Sequence[str | None] | None = None


class Source(Protocol):
    """Documents that can be read twice."""

    def check(self, seed: int, told: Told) -> Checked:
        """Read everything once, find what is wrong with it, and draw the sample."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield the documents in their order, with their vectors."""


def open_source(
    path: Path, encoder: Encoder | None, *, vectors: bool, limit: int | None, batch_size: int
) -> Source:
    """Find out what a path holds.

    vectors  the path holds vectors, and nothing is encoded
    limit    take the first so many documents only
    """
    if not path.exists():
        raise BadData(f"there is no file or folder {path}")
    if vectors:
        return Vectors(path, limit)
    if encoder is None:
        raise BadInput("wanted an encoder for texts", field="encoder")
    return Texts(_reader(path), encoder, limit, batch_size)


def _reader(path: Path) -> Callable[[], Iterator[Record]]:
    """Return a function that reads the documents of a BEIR folder or a JSONL file."""
    if path.is_dir():
        if not BeirFolder.is_one(path):
            holds_vectors = any(file.suffix in SUFFIXES for file in path.iterdir())
            advice = " It holds vectors: name --vectors." if holds_vectors else ""
            raise BadData(
                f"{path} is no folder in BEIR's layout: there is no corpus.jsonl in it.{advice}"
            )
        return BeirFolder(path).corpus
    if path.suffix in SUFFIXES:
        raise BadData(f"{path} holds vectors: name --vectors to index them")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadData(f"{path}: wanted a .jsonl file, packed or not, or a folder in BEIR's layout")
    return lambda: records(path)


@dataclass(frozen=True)
class Texts:
    """Documents that are encoded on the way."""

    read: Callable[[], Iterator[Record]]
    encoder: Encoder
    limit: int | None
    batch_size: int

    def check(self, seed: int, told: Told) -> Checked:
        """Read all texts, encode the sample."""
        count = 0

        def counted() -> Iterator[Record]:
            nonlocal count
            for record in islice(self.read(), self.limit):
                count += 1
                if count % 1000 == 0:
                    told(count)
                yield record

        drawn = reservoir(counted(), SAMPLE, seed)
        told(count)
        if not drawn:
            raise BadData("there are no documents in the source")
        texts = [record.text for record in drawn]
        sample = Ragged.concat(list(self.encoder.documents(texts, self.batch_size)))
        return Checked(count, sample, [record.id for record in drawn], texts)

    def chunks(self) -> Iterator[Chunk]:
        """Encode window after window."""
        stream = islice(self.read(), self.limit)
        for some in chunks(stream, self.batch_size * WINDOW):
            texts = [record.text for record in some]
            vectors = Ragged.concat(list(self.encoder.documents(texts, self.batch_size)))
            ids, metadata = [record.id for record in some], [record.metadata for record in some]
            yield Chunk(ids, vectors, texts, metadata)


@dataclass(frozen=True)
class Vectors:
    """Vectors that somebody else made."""

    path: Path
    limit: int | None

    def check(self, seed: int, told: Told) -> Checked:
        """Read all vectors, keep those of the sample."""
        count = 0

        def items() -> Iterator[tuple[str, Ragged]]:
            nonlocal count
            for chunk in self.chunks():
                for item, name in enumerate(chunk.ids):
                    yield name, chunk.vectors.take(slice(item, item + 1))
                count += len(chunk.ids)
                told(count)

        drawn = reservoir(items(), SAMPLE, seed)
        sample = Ragged.concat([vectors for _, vectors in drawn])
        return Checked(count, sample, [name for name, _ in drawn])

    def chunks(self) -> Iterator[Chunk]:
        """Read the files again."""
        left = self.limit
        for batch in vector_batches(self.path, VECTOR_CHUNK):
            take = len(batch.ids) if left is None else min(left, len(batch.ids))
            if take:
                yield Chunk(batch.ids[:take], batch.vectors.take(slice(0, take)))
            left = None if left is None else left - take
            if left == 0:
                return
