"""The first reading of a source: what is in it, what is wrong with it, and a sample of it.

Everything is looked at once before anything is built. So a source with a mistake at its end is
found before an hour has gone by, methods learn from documents of the whole corpus, and what the
second reading finds can be compared with what the first one found. Of every document 8 bytes are
remembered, to find ids that come twice; of every block a digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.errors import BadData
from colreduce.evaluate.sample import SAMPLE, Draw
from colreduce.ragged import Ragged
from colreduce.store import tensors
from colreduce.store.layout import to_json
from colreduce_indexer.rejects import Rejects
from colreduce_indexer.sources import Bad, Documents, Source

# Told now and then how many documents were read.
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first reading found.

    documents  that can be used
    block      documents in a block
    starts     [blocks] int64      the number of each block's first record
    digests    [blocks, 32] uint8  the SHA-256 of each block
    sample     documents drawn from all of them
    rejected   the numbers of the records that are left out
    """

    documents: int
    block: int
    starts: NDArray[np.int64]
    digests: NDArray[np.uint8]
    sample: Documents
    rejected: frozenset[int] = frozenset()

    @property
    def sha256(self) -> str:
        """Return one digest for everything that goes into the index."""
        return hashlib.sha256(self.digests.tobytes()).hexdigest()


def survey(
    source: Source, *, seed: int, block: int, limit: int | None, rejects: Rejects, told: Told
) -> Survey:
    """Read a source, and again as long as ids that come twice are to be left out.

    With a limit other documents come in for those, and an id of theirs may come twice as well.

    Raises `BadData` when there are more bad records than ``rejects`` takes.
    """
    while True:
        reading = _read(source, seed, block, limit, rejects, told)
        repeated = reading.repeated(source, rejects.left_out)
        if not repeated:
            return reading.finish(source, rejects)
        for bad in repeated:
            rejects.take(bad)


def accepted(source: Source, start: int, rejected: Iterable[int]) -> Iterator[Documents]:
    """Yield the documents that are to be used, from a record on."""
    left_out = frozenset(rejected)
    for batch in source.read(start):
        yield _without(batch.documents, left_out)


def digest_of(documents: Documents, digest: Any) -> None:
    """Add to a digest everything of some documents that goes into an index."""
    if documents.vectors is not None:
        digest.update(to_json([list(documents.ids), documents.vectors.lengths.tolist()]))
        digest.update(documents.vectors.tokens.numpy().tobytes())
    if documents.texts is not None:
        told = documents.metadata or [{}] * len(documents)
        lines = zip(documents.ids, documents.texts, told, strict=True)
        digest.update(b"".join(to_json(list(line)) for line in lines))
    for page in documents.pages or ():
        digest.update(b"" if page is None else page.digest().encode())


class Cutter:
    """Cuts a stream of documents into runs of the lengths that are asked for."""

    def __init__(self, stream: Iterable[Documents]) -> None:
        self._stream = iter(stream)
        self._held: list[Documents] = []

    def next(self, count: int) -> Documents | None:
        """Return the next ``count`` documents, fewer at the end, None behind it."""
        there = sum(map(len, self._held))
        while there < count and (some := next(self._stream, None)) is not None:
            if len(some):
                self._held.append(some)
                there += len(some)
        if not there:
            return None
        whole = Documents.joined(self._held)
        self._held = [whole.take(slice(count, None))] if there > count else []
        return whole.take(slice(0, count))


def _without(documents: Documents, left_out: frozenset[int]) -> Documents:
    if not left_out or left_out.isdisjoint(documents.numbers):
        return documents
    numbers = enumerate(documents.numbers)
    return documents.take([row for row, number in numbers if number not in left_out])


@dataclass(frozen=True, slots=True)
class Apart:
    """One document of the sample, its vectors in memory that nothing else shares.

    The sample lasts while large blocks come and go. A document that lay between two of these would
    keep the room around it from being used again: 512 of them, a gigabyte.
    """

    documents: Documents
    vectors: mmap.mmap | None

    @classmethod
    def of(cls, one: Documents) -> Apart:
        """Copy a document out of its block."""
        if one.vectors is None:
            return cls(one, None)
        names = ("tokens", "lengths", *one.vectors.known)
        data = tensors.dump({name: getattr(one.vectors, name).numpy() for name in names})
        memory = mmap.mmap(-1, len(data))
        memory.write(data)
        return cls(dataclasses.replace(one, vectors=None), memory)

    def back(self) -> Documents:
        """Return the document."""
        if self.vectors is None:
            return self.documents
        arrays = tensors.load(self.vectors, self.documents.ids[0])
        known = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return dataclasses.replace(self.documents, vectors=Ragged(**known))


@dataclass
class _Reading:
    """What is gathered while a source is read."""

    block: int
    draw: Draw
    count: int = 0
    starts: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    drawn: dict[int, tuple[int, Apart]] = field(default_factory=dict)

    def see(self, documents: Documents) -> None:
        """Take in one block."""
        digest = hashlib.sha256()
        digest_of(documents, digest)
        self.starts.append(documents.numbers[0])
        self.digests.append(digest.digest())
        self.hashes.extend(map(_hash, documents.ids))
        for row in range(len(documents)):
            if (place := self.draw.next()) is not None:
                one = Apart.of(documents.take(slice(row, row + 1)))
                self.drawn[place] = (self.count + row, one)
        self.count += len(documents)

    def repeated(self, source: Source, left_out: frozenset[int]) -> list[Bad]:
        """Return the records whose id an earlier one has; looks again where hashes are equal."""
        hashes = np.sort(np.frombuffer(self.hashes, np.uint64))
        twice = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not twice:
            return []
        seen: dict[str, str] = {}
        found: list[Bad] = []
        left = self.count
        for documents in accepted(source, 0, left_out):
            for one, number, place in zip(
                documents.ids[:left], documents.numbers, documents.places, strict=False
            ):
                if _hash(one) not in twice:
                    continue
                if one in seen:
                    found.append(Bad(number, place, f"the id {one!r} was at {seen[one]} already"))
                seen.setdefault(one, place)
            left -= len(documents)
            if left <= 0:
                break
        return found

    def finish(self, source: Source, rejects: Rejects) -> Survey:
        """Return what was found."""
        if not self.count:
            raise BadData(f"{source.name}: there are no documents in the source")
        drawn = [one.back() for _, one in sorted(self.drawn.values(), key=lambda pair: pair[0])]
        digests = np.frombuffer(b"".join(self.digests), np.uint8).reshape(-1, 32)
        starts = np.array(self.starts, np.int64)
        sample = Documents.joined(drawn)
        return Survey(self.count, self.block, starts, digests, sample, rejects.left_out)


def _hash(one: str) -> int:
    return int.from_bytes(hashlib.blake2b(one.encode(), digest_size=8).digest(), "little")


def _read(
    source: Source, seed: int, block: int, limit: int | None, rejects: Rejects, told: Told
) -> _Reading:
    reading = _Reading(block, Draw(SAMPLE, seed))
    cutter = Cutter(_taken(source, rejects))
    while limit is None or reading.count < limit:
        left = block if limit is None else min(block, limit - reading.count)
        documents = cutter.next(left)
        if documents is None:
            break
        reading.see(documents)
        told(reading.count)
    return reading


def _taken(source: Source, rejects: Rejects) -> Iterator[Documents]:
    """Yield what can be used, and hand over what cannot."""
    for batch in source.read():
        for bad in batch.bad:
            rejects.take(bad)
        yield _without(batch.documents, rejects.left_out)
