"""The records of a segment: which documents it puts and which it deletes.

They are held as a few flat arrays, not as an object per document, so that an index of a million
documents opens in the time it takes to read them. Puts come first, in row order; deletes follow.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import Damaged
from colreduce.store import tensors

PUT, DELETE = 1, 2


def id_hash(encoded: bytes) -> int:
    """Return the 64-bit number by which an id is looked up; equal ids, not numbers, decide."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def joined(parts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.uint32 | np.uint64]]:
    """Lay byte strings end to end; return them with the place where each begins, and the end."""
    ends = np.zeros(len(parts) + 1, np.uint64)
    np.cumsum([len(part) for part in parts], out=ends[1:], dtype=np.uint64)
    kind = np.uint32 if ends[-1] < 1 << 32 else np.uint64
    return np.frombuffer(b"".join(parts), np.uint8), ends.astype(kind)


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


class Records:
    """What ``docs.bin`` holds, checked against itself.

    ids            all records' ids end to end     id_ends        [r + 1]
    hashes   [r]   uint64, of the ids              kinds    [r]   PUT or DELETE
    seqs     [r]   int64, the order of all writes  metadata_ends  [n + 1], of the n rows
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], where: object) -> None:
        try:
            self.ids = arrays["ids"].tobytes()
            self.id_ends = arrays["id_ends"]
            self.hashes = arrays["hashes"]
            self.seqs = arrays["seqs"]
            self.kinds = arrays["kinds"]
            self.metadata_block = arrays["metadata"].tobytes()
            self.metadata_ends = arrays["metadata_ends"]
        except KeyError as problem:
            raise Damaged(f"{where} has no array {problem}.") from problem
        self.count = len(self.kinds)
        self.rows = int((self.kinds == PUT).sum())
        shapes_fit = (
            all(len(x) == self.count for x in (self.hashes, self.seqs))
            and _ends_fit(self.id_ends, self.count, len(self.ids))
            and _ends_fit(self.metadata_ends, self.rows, len(self.metadata_block))
            and bool((self.kinds[: self.rows] == PUT).all())
            and bool((self.kinds[self.rows :] == DELETE).all())
        )
        if not shapes_fit:
            raise Damaged(f"{where} contradicts itself: its arrays do not fit each other.")

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

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        order = np.argsort(self.hashes, kind="stable")
        return order, self.hashes[order]

    def lookup(self, encoded: bytes) -> int | None:
        """Return the record of this id with the highest seq, None if there is none."""
        order, hashes = self._sorted
        key = np.uint64(id_hash(encoded))
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


def _ends_fit(ends: NDArray[Any], count: int, size: int) -> bool:
    return (
        len(ends) == count + 1
        and int(ends[0]) == 0
        and int(ends[-1]) == size
        and bool((ends[1:] >= ends[:-1]).all())
    )


def encode(
    puts: Sequence[tuple[bytes, int, bytes]], deletes: Iterable[tuple[bytes, int]]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``docs.bin`` for (id, seq, metadata) puts and (id, seq) deletes."""
    gone = list(deletes)
    ids = [put[0] for put in puts] + [delete[0] for delete in gone]
    block, ends = joined(ids)
    metadata, metadata_ends = joined([put[2] for put in puts])
    return {
        "ids": block,
        "id_ends": ends,
        "hashes": np.array([id_hash(encoded) for encoded in ids], np.uint64),
        "seqs": np.array([put[1] for put in puts] + [delete[1] for delete in gone], np.int64),
        "kinds": np.repeat(np.array([PUT, DELETE], np.uint8), [len(puts), len(gone)]),
        "metadata": metadata,
        "metadata_ends": metadata_ends,
    }


def decode(buffer: Any, where: object) -> Records:
    """Read the bytes of a ``docs.bin``."""
    return Records(tensors.load(buffer, where), where)


def winners(parts: Sequence[Records]) -> list[NDArray[np.bool_]]:
    """Say of every record of every part whether it is the newest of its id, over all parts."""
    hashes = np.concatenate([part.hashes for part in parts] or [np.empty(0, np.uint64)])
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
