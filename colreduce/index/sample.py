"""A few documents as they were encoded, so that quality can be measured again later.

Which documents these are depends on their ids alone: those whose hashes are lowest. So the sample
stays an even one whatever is added or deleted. Where the index has texts and knows its encoder, the
sample is encoded again when it is wanted and takes no place. Otherwise its vectors lie in the
segments, beside what is left of the same documents after reduction, and go when they go: a purge
leaves nothing of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.codec.int8 import Int8
from colreduce.embed import Encoder
from colreduce.ragged import TOKEN_FIELDS, Ragged
from colreduce.store import Segment, SegmentWriter, Snapshot, tensors

FILE = "sample.safetensors"

# Of so many documents a share is kept, within a least and a most, and never more than these bytes.
SHARE, LEAST, MOST = 0.02, 64, 256
MOST_BYTES = 32 << 20

# What is known of tokens fits into smaller numbers on disk than in memory.
_NARROW = {"token_ids": "<i4", "word_ids": "<i4", "grid": "<i4", "special": "|u1"}
_WIDE = {"token_ids": np.int64, "word_ids": np.int64, "grid": np.int64, "special": np.bool_}


@dataclass(frozen=True, slots=True)
class Sample:
    """The sampled documents of an index, in the order of their hashes.

    vectors  as encoded; rounded to a byte per number where they were kept
    """

    ids: Sequence[str]
    vectors: Ragged
    texts: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.ids)


class Keeper:
    """Picks the sampled documents of one segment as they come by."""

    def __init__(self, before: int) -> None:
        """``before`` is the number of documents that the index holds without this segment."""
        self._documents = before
        self._rows = 0
        self._kept: list[_Kept] = []

    def add(self, ids: Sequence[str], batch: Ragged) -> None:
        """Keep those of the documents that are in the sample."""
        rows = np.arange(self._rows, self._rows + len(ids))
        self._rows += len(ids)
        self._documents += len(ids)
        places = places_of(ids)
        share = share_of(self._documents, len(batch.tokens) * batch.dim / len(ids))
        chosen = np.flatnonzero(places < share)
        if len(chosen):
            some = batch.take(torch.from_numpy(chosen)).to("cpu")
            self._kept.append(_Kept(places[chosen], rows[chosen], some))

    def write(self, writer: SegmentWriter) -> None:
        """Write the sample's file of the segment, if there is anything to write.

        The share falls while documents come by: what was kept early may be too much by now.
        """
        if self._kept:
            _joined(self._kept).within(self._documents).write(writer)


def share_of(documents: int, bytes_each: float) -> float:
    """Return the share of the documents that is sampled; it falls as they grow in number."""
    wanted = min(MOST, max(LEAST, SHARE * documents))
    return min(1.0, wanted / documents, MOST_BYTES / max(1.0, documents * bytes_each))


def places_of(ids: Sequence[str]) -> NDArray[np.float64]:
    """Return a place between 0 and 1 for every id, evenly spread and always the same."""
    digests = b"".join(
        hashlib.blake2b(one.encode(), digest_size=8, person=b"sample").digest() for one in ids
    )
    return np.frombuffer(digests, "<u8") / 2.0**64


def kept_sample(snapshot: Snapshot) -> Sample | None:
    """Return the sample whose vectors an index keeps; None where there is none."""
    owners: list[tuple[Segment, int]] = []
    parts = []
    for segment in snapshot.segments:
        kept = _read(segment)
        if kept is not None and segment.live[kept.rows].any():
            kept = kept.only(segment.live[kept.rows])
            owners += [(segment, row) for row in kept.rows.tolist()]
            parts.append(kept)
    if not parts:
        return None
    joined = _joined(parts)
    left = _Kept(joined.places, np.arange(len(owners)), joined.vectors).within(snapshot.count)
    order = np.argsort(left.places, kind="stable")
    chosen = [owners[place] for place in left.rows[order]]
    return Sample(
        [segment.ids[row] for segment, row in chosen],
        left.vectors.take(torch.from_numpy(order)),
        [segment.text(row) for segment, row in chosen],
    )


def encoded_sample(snapshot: Snapshot, encoder: Encoder) -> Sample | None:
    """Encode the sample of an index from its texts; None where no document has a text."""
    found: list[tuple[float, str, str]] = []
    share = share_of(max(1, snapshot.count), 0)
    for segment in snapshot.segments:
        rows = np.flatnonzero(segment.live)
        places = places_of([segment.ids[row] for row in rows.tolist()])
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            text = segment.text(row) if place < share else None
            if text is not None:
                found.append((place, segment.ids[row], text))
    if not found:
        return None
    found.sort()
    texts = [text for _, _, text in found]
    return Sample(
        [one for _, one, _ in found], Ragged.concat(list(encoder.documents(texts))), texts
    )


def merge_samples(
    documents: int, moved: Sequence[tuple[Segment, NDArray[np.int64]]], writer: SegmentWriter
) -> None:
    """Carry the sample over when documents move from several segments into one.

    documents  how many the index will hold at least
    moved      the old segments, each with the rows that moved, in their new order
    """
    parts, before = [], 0
    for segment, rows in moved:
        kept = _read(segment)
        if kept is not None and np.isin(kept.rows, rows).any():
            kept = kept.only(np.isin(kept.rows, rows))
            new = before + np.searchsorted(rows, kept.rows)
            parts.append(_Kept(kept.places, new, kept.vectors))
        before += len(rows)
    if parts:
        _joined(parts).within(documents).write(writer)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Sampled documents of one segment: the places of their hashes, their rows, their vectors."""

    places: NDArray[np.float64]
    rows: NDArray[np.int64]
    vectors: Ragged

    def only(self, mask: NDArray[np.bool_]) -> _Kept:
        """Return those where the mask is true."""
        items = torch.from_numpy(np.flatnonzero(mask))
        return _Kept(self.places[mask], self.rows[mask], self.vectors.take(items))

    def within(self, documents: int) -> _Kept:
        """Return those that belong to the sample of so many documents; it may be none."""
        bytes_each = len(self.vectors.tokens) * self.vectors.dim / len(self.rows)
        return self.only(self.places < share_of(documents, bytes_each))

    def write(self, writer: SegmentWriter) -> None:
        """Write the documents into their segment: a byte per number, and what is known of each."""
        if not len(self.rows):
            return
        lengths = self.vectors.lengths.numpy().astype("<i4")
        arrays = {"rows": self.rows.astype("<i4"), "lengths": lengths}
        codes = Int8().encode(self.vectors.tokens, {})
        arrays |= {name: part.numpy() for name, part in codes.items()}
        for name in (*TOKEN_FIELDS, "grid"):
            value = getattr(self.vectors, name)
            if value is not None:
                array = value.numpy()
                arrays[name] = array.astype(_NARROW.get(name, array.dtype))
        data = tensors.dump(arrays)

        def write(stream: BinaryIO) -> None:
            stream.write(data)

        writer.blob(FILE, write)


def _joined(parts: Sequence[_Kept]) -> _Kept:
    return _Kept(
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.rows for part in parts]),
        Ragged.concat([part.vectors for part in parts]),
    )


def _read(segment: Segment) -> _Kept | None:
    """Return the sampled documents of a segment, dead ones included."""
    if FILE not in segment.buffers:
        return None
    arrays = tensors.load(segment.buffers[FILE], f"{segment.name}/{FILE}")
    known = {
        name: torch.from_numpy(arrays[name].astype(_WIDE.get(name, arrays[name].dtype)))
        for name in (*TOKEN_FIELDS, "grid")
        if name in arrays
    }
    codes = {name: torch.from_numpy(arrays[name].copy()) for name in ("tokens", "scales")}
    lengths = torch.from_numpy(arrays["lengths"].astype(np.int64))
    rows = arrays["rows"].astype(np.int64)
    places = places_of([segment.ids[row] for row in rows.tolist()])
    return _Kept(places, rows, Ragged(Int8().decode(codes, {}), lengths, **known))
