"""The records of a segment: which documents it puts and which it deletes.

They are held as a few flat arrays, not as an object per document, so that an index of a million
documents opens in the time it takes to read them. Puts come first, in row order; deletes follow.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import Damaged
from colreduce.store import tensors

PUT = 1  # what format 1 writes for a put; any other record is a delete
_HASH = np.uint32


def id_hash(encoded: bytes) -> int:
    """Return the 32-bit number by which an id is looked up; equal ids, not numbers, decide."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest()[:4], "little")


def ends_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each part begins in what is laid end to end, and where the last one ends."""
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:], dtype=np.int64)
    return ends


def picked(
    block: NDArray[Any], ends: NDArray[np.int64], which: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Take some parts out of what is laid end to end; return them so, with their lengths."""
    lengths = ends[which + 1] - ends[which]
    before = np.cumsum(lengths) - lengths
    places = np.repeat(ends[which] - before, lengths) + np.arange(int(lengths.sum()))
    return block[places], lengths


class Ids(Sequence[str]):
    """The ids of a segment's rows, decoded when asked for."""

    def __init__(self, block: bytes, ends: NDArray[Any], rows: int) -> None:
        self._block = block
        self._ends = ends
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(self._rows))]
        row = index + self._rows if index < 0 else index
        if not 0 <= row < self._rows:
            raise IndexError(f"row {index} of a segment that has {self._rows}")
        return self._block[self._ends[row] : self._ends[row + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        places = self._ends[: self._rows + 1].tolist()
        for begin, end in itertools.pairwise(places):
            yield self._block[begin:end].decode()


@dataclass(frozen=True, slots=True)
class Entries:
    """Records on their way into a segment: puts with metadata, or deletes without.

    ids       uint8, end to end     id_lengths        [r]
    hashes    [r] uint32            seqs              [r] int64
    metadata  uint8, end to end     metadata_lengths  [r], all 0 for deletes
    """

    ids: NDArray[np.uint8]
    id_lengths: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    seqs: NDArray[np.int64]
    metadata: NDArray[np.uint8]
    metadata_lengths: NDArray[np.int64]

    @classmethod
    def of(cls, ids: Sequence[bytes], seqs: Sequence[int], metadata: Sequence[bytes]) -> Entries:
        """Lay out what is given record by record."""
        return cls(
            np.frombuffer(b"".join(ids), np.uint8),
            np.array([len(one) for one in ids], np.int64),
            np.array([id_hash(one) for one in ids], _HASH),
            np.array(seqs, np.int64),
            np.frombuffer(b"".join(metadata), np.uint8),
            np.array([len(one) for one in metadata], np.int64),
        )

    def __len__(self) -> int:
        return len(self.seqs)

    def moved(self, base: int) -> Entries:
        """Return the same records with seqs counted from ``base``."""
        return replace(self, seqs=self.seqs + base)


class Records:
    """The records that ``docs.bin`` holds, checked against themselves."""

    def __init__(self, arrays: dict[str, NDArray[Any]], where: object) -> None:
        try:
            told = arrays if "id_lengths" in arrays else _from_format_1(arrays)
            self._ids = told["ids"]
            self._metadata = told["metadata"]
            self.hashes: NDArray[np.uint32] = told["hashes"]
            self.id_ends = ends_of(told["id_lengths"])
            self.metadata_ends = ends_of(told["metadata_lengths"])
            self.seqs = told["seqs"].astype(np.int64) + np.int64(told["first_seq"])
        except (KeyError, ValueError, TypeError) as problem:
            raise Damaged(f"{where} is not what a segment's records are: {problem}.") from problem
        self.count = len(self.seqs)
        self.rows = len(self.metadata_ends) - 1
        fits = (
            len(self.hashes) == len(self.id_ends) - 1 == self.count >= self.rows
            and int(self.id_ends[-1]) == len(self._ids)
            and int(self.metadata_ends[-1]) == len(self._metadata)
            and self.hashes.dtype == _HASH
        )
        if not fits:
            raise Damaged(f"{where} contradicts itself: its arrays do not fit each other.")
        self.ids = self._ids.tobytes()
        self.metadata_block = self._metadata.tobytes()

    def id_bytes(self, record: int) -> bytes:
        """Return one record's id."""
        return self.ids[self.id_ends[record] : self.id_ends[record + 1]]

    def metadata_bytes(self, row: int) -> bytes:
        """Return one row's metadata as JSON."""
        return self.metadata_block[self.metadata_ends[row] : self.metadata_ends[row + 1]]

    def metadata(self, row: int) -> dict[str, Any]:
        """Return one row's metadata."""
        encoded = self.metadata_bytes(row)
        found: dict[str, Any] = json.loads(encoded) if encoded else {}
        return found

    def take(self, which: NDArray[np.int64]) -> Entries:
        """Return some records, all of them puts or all of them deletes, with their seqs."""
        ids, id_lengths = picked(self._ids, self.id_ends, which)
        if len(which) and which[0] < self.rows:
            metadata, metadata_lengths = picked(self._metadata, self.metadata_ends, which)
        else:
            metadata, metadata_lengths = np.empty(0, np.uint8), np.zeros(len(which), np.int64)
        hashes, seqs = self.hashes[which], self.seqs[which]
        return Entries(ids, id_lengths, hashes, seqs, metadata, metadata_lengths)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        order = np.argsort(self.hashes, kind="stable")
        return order, self.hashes[order]

    def lookup(self, encoded: bytes) -> int | None:
        """Return the record of this id with the highest seq, None if there is none."""
        order, hashes = self._sorted
        key = _HASH(id_hash(encoded))
        begin, end = int(hashes.searchsorted(key)), int(hashes.searchsorted(key, "right"))
        same = [int(r) for r in order[begin:end] if self.id_bytes(int(r)) == encoded]
        return max(same, key=lambda record: int(self.seqs[record]), default=None)

    def matches(self, other: Records) -> Iterator[tuple[int, int]]:
        """Yield (a record of ours, a record of the other) for every pair with the same id."""
        order, hashes = self._sorted
        if not len(hashes):
            return
        begins = hashes.searchsorted(other.hashes)
        begins[begins == len(hashes)] = 0  # a hash greater than all; it will not be equal there
        for theirs in (hashes[begins] == other.hashes).nonzero()[0].tolist():
            encoded, place = other.id_bytes(theirs), int(begins[theirs])
            while place < len(hashes) and hashes[place] == other.hashes[theirs]:
                if self.id_bytes(int(order[place])) == encoded:
                    yield int(order[place]), theirs
                place += 1


def encode(puts: Sequence[Entries], deletes: Sequence[Entries]) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``docs.bin``; whole numbers take as few bytes as they need."""
    every = [*puts, *deletes]

    def of(name: str, parts: Sequence[Entries], kind: Any) -> NDArray[Any]:
        return np.concatenate([np.empty(0, kind), *(getattr(part, name) for part in parts)])

    seqs = of("seqs", every, np.int64)
    first = seqs.min(initial=np.iinfo(np.int64).max) if len(seqs) else np.int64(0)
    return {
        "ids": of("ids", every, np.uint8),
        "id_lengths": narrowed(of("id_lengths", every, np.int64)),
        "hashes": of("hashes", every, _HASH),
        "first_seq": np.array(first, np.int64),
        "seqs": narrowed(seqs - first),
        "metadata": of("metadata", puts, np.uint8),
        "metadata_lengths": narrowed(of("metadata_lengths", puts, np.int64)),
    }


def narrowed(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """Return numbers that are not negative in the narrowest type that holds them."""
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _from_format_1(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return what format 1 holds as format 2 does: ends were written, and the kind of records."""
    rows = int((arrays["kinds"] == PUT).sum())
    metadata_ends, id_ends = arrays["metadata_ends"], arrays["id_ends"]
    if len(metadata_ends) != rows + 1 or bool((arrays["kinds"][:rows] != PUT).any()):
        raise ValueError("puts and deletes are mixed")
    for ends in (metadata_ends, id_ends):
        if not len(ends) or int(ends[0]) or bool((ends[1:] < ends[:-1]).any()):
            raise ValueError("it names places that go backwards")
    return {
        "ids": arrays["ids"],
        "id_lengths": np.diff(id_ends.astype(np.int64)),
        "hashes": (arrays["hashes"] & np.uint64(0xFFFFFFFF)).astype(_HASH),
        "first_seq": 0,
        "seqs": arrays["seqs"],
        "metadata": arrays["metadata"],
        "metadata_lengths": np.diff(metadata_ends.astype(np.int64)),
    }


def decode(buffer: Any, where: object) -> Records:
    """Read the bytes of a ``docs.bin``."""
    return Records(tensors.load(buffer, where), where)


def winners(parts: Sequence[Records]) -> list[NDArray[np.bool_]]:
    """Say of every record of every part whether it is the newest of its id, over all parts."""
    hashes = np.concatenate([part.hashes for part in parts] or [np.empty(0, _HASH)])
    seqs = np.concatenate([part.seqs for part in parts] or [np.empty(0, np.int64)])
    bounds = np.cumsum([0, *(part.count for part in parts)])
    order = np.lexsort((seqs, hashes))
    ordered = hashes[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = ordered[1:] != ordered[:-1]
    wins = np.zeros(len(order), np.bool_)
    wins[order] = last

    def id_of(place: int) -> bytes:
        part = int(np.searchsorted(bounds, place, "right")) - 1
        return parts[part].id_bytes(place - int(bounds[part]))

    _keep_colliding(order, last, id_of, wins)
    return [wins[begin:end] for begin, end in itertools.pairwise(bounds)]


def _keep_colliding(
    order: NDArray[np.int64], last: NDArray[np.bool_], id_of: Any, wins: NDArray[np.bool_]
) -> None:
    """Two different ids may share a hash: then each has a newest record of its own."""
    seen: set[bytes] = set()
    for place in np.flatnonzero(~last)[::-1].tolist():
        if last[place + 1]:
            seen = {id_of(int(order[place + 1]))}
        encoded = id_of(int(order[place]))
        if encoded not in seen:
            wins[order[place]] = True
            seen.add(encoded)
