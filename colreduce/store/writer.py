"""SegmentWriter: collects documents and arrays into a folder nobody sees until it is committed."""

from __future__ import annotations

import itertools
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.store import fs, layout, records, tensors
from colreduce.store.spool import Spool, packed

log = logging.getLogger(__name__)
_NUMBERS = itertools.count()


@dataclass
class _Growing:
    """An array that is being streamed to its file."""

    spool: Spool
    file: str
    dtype: np.dtype[Any]
    tail: tuple[int, ...]
    per: str | None
    rows: int = 0
    total: int = 0  # the sum of whole numbers, which may count the rows of another array


@dataclass(frozen=True)
class Sealed:
    """A finished segment in its temporary folder, and the seal of its ``segment.json``."""

    directory: Path
    seal: fs.Seal
    rows: int
    deletes: int


class SegmentWriter:
    """One segment in the making. ``Store.begin`` makes it, ``Store.commit`` publishes it."""

    def __init__(self, segments: Path, guard: Callable[[], Any]) -> None:
        self._segments = segments
        self._guard = guard  # turns errors of the disk into ours
        self._directory: Path | None = None
        self._parts: dict[str, Spool] = {}  # every file but segment.json, in the making
        self._growing: dict[str, _Growing] = {}
        self._info: dict[str, Any] = {}
        # Their seqs are counted from 0 until they are committed, except those carried over.
        self._puts: list[records.Entries] = []
        self._deletes: list[records.Entries] = []
        self._rows = self._gone = 0
        self._carries_seqs = False
        self._text_lengths: list[NDArray[np.int64]] = []
        self._sealed: Sealed | None = None
        self._state = "open"

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()

    @property
    def rows(self) -> int:
        """The number of documents put so far."""
        return self._rows

    @property
    def empty(self) -> bool:
        """Whether committing it would change nothing."""
        return not (self._rows or self._gone or self._parts)

    @property
    def only_deletes(self) -> bool:
        """Whether it holds nothing but deletions, which are let through on a full disk."""
        return bool(self._gone) and not (self._rows or self._parts)

    @property
    def operations(self) -> int:
        """How many seqs it takes."""
        return 0 if self._carries_seqs else self._rows + self._gone

    def add(
        self,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        texts: Sequence[str | None] | None = None,
    ) -> None:
        """Put documents, in row order; one that is there already is replaced.

        Texts are stored only if they are given, compressed and in a file of their own.
        """
        self._require_open()
        for name, given in (("metadata", metadata), ("texts", texts)):
            if given is not None and len(given) != len(ids):
                raise BadInput(f"{len(ids)} ids came with {len(given)} {name}.", field=name)
        encoded = [layout.checked_id(identifier) for identifier in ids]
        told = [b""] * len(ids)
        if metadata is not None:
            pairs = zip(ids, metadata, strict=True)
            told = [
                layout.checked_metadata(name, values) if values else b"" for name, values in pairs
            ]
        if texts is not None:
            self._add_texts(texts)
        first = self.operations
        self._rows += len(ids)
        self._puts.append(records.Entries.of(encoded, range(first, first + len(ids)), told))

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents; one that is not there does no harm."""
        self._require_open()
        encoded = [layout.checked_id(identifier) for identifier in ids]
        first = self.operations
        self._gone += len(ids)
        seqs, nothing = range(first, first + len(ids)), [b""] * len(ids)
        self._deletes.append(records.Entries.of(encoded, seqs, nothing))

    def append(self, name: str, rows: NDArray[Any], *, per: str | None = None) -> None:
        """Grow the array ``name`` by these rows; the first call fixes its dtype and row shape.

        ``per`` says what a row belongs to, so that the store can move documents to another
        segment by itself: ``"document"`` for one row per document, or the name of a
        one-dimensional integer array per document that counts the rows of each, such as
        ``"lengths"``. Without it, compaction leaves the array to its ``rewrite`` function.
        """
        self._require_open()
        rows = tensors.little_endian(np.asarray(rows))
        if rows.ndim < 1 or rows.dtype.kind not in "biuf":
            raise ShapeMismatch(f"the array {name!r} needs rows of numbers, got {rows.dtype} rows.")
        growing = self._growing.get(name)
        if growing is None:
            file = f"{layout.checked_name(name, 'an array')}.bin"
            growing = _Growing(self._begin_named(file), file, rows.dtype, rows.shape[1:], per)
            self._growing[name] = growing
        if (growing.dtype, growing.tail) != (rows.dtype, rows.shape[1:]):
            raise ShapeMismatch(
                f"the array {name!r} has rows of {growing.dtype} {list(growing.tail)}; "
                f"got {rows.dtype} {list(rows.shape[1:])}."
            )
        growing.rows += len(rows)
        if rows.ndim == 1 and rows.dtype.kind in "iu":
            growing.total += int(rows.sum(dtype=np.int64))
        with self._guard_or_abort():
            growing.spool.write(rows.reshape(-1).view(np.uint8).data if rows.size else b"")

    def blob(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Store one file that a function writes, such as a FAISS index."""
        self._require_open()
        spool = self._begin_named(layout.checked_name(name, "a file"))
        with self._guard_or_abort():
            write(cast(BinaryIO, spool))

    def note(self, **info: Any) -> None:
        """Keep JSON values beside the segment."""
        self._require_open()
        self._info.update(layout.plain_json(info, "what is noted of a segment"))

    def carry(
        self,
        puts: records.Entries,
        *,
        texts: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    ) -> None:
        """Take documents over from another segment with the seqs they have.

        ``texts`` are as they are stored, end to end, with the length of each.
        """
        self._require_open()
        self._carries_seqs = True
        if texts is not None:
            self._add_packed(*texts)
        self._rows += len(puts)
        self._puts.append(puts)

    def carry_deletes(self, deletes: records.Entries) -> None:
        """Take deletions over from another segment with the seqs they have."""
        self._require_open()
        self._carries_seqs = True
        self._gone += len(deletes)
        self._deletes.append(deletes)

    def abort(self) -> None:
        """Throw away what was collected."""
        if self._state == "done":
            return
        self._state = "done"
        self._close_sinks()
        if self._directory is not None:
            try:
                fs.rmtree(self._directory)
            except OSError as problem:
                log.warning("%s is left for the next open to remove: %s", self._directory, problem)

    def seal(self, base: int) -> Sealed:
        """Finish all files, force them to the disk, and return where they lie."""
        if self._sealed is not None:
            return self._sealed
        self._require_open()
        self._check_counts()
        with self._guard():
            folder = self._folder()
            small = {name: part for name, part in self._all_parts(base) if part.small}
            block, places = packed(small)
            files = {n: p.finish() for n, p in sorted(self._parts.items()) if n not in small}
            files[layout.PACK] = fs.write_once(folder / layout.PACK, block)
            body = layout.to_json(self._body(files, places))
            seal = fs.write_once(folder / layout.SEGMENT_JSON, body)
            fs.fsync_dir(folder)
        self._sealed = Sealed(folder, seal, self._rows, self._gone)
        if self._rows:  # deletions alone may be sealed again; all else is on the disk now
            self._puts, self._text_lengths, self._parts = [], [], {}
        return self._sealed

    def reopen(self) -> None:
        """Forget a failed attempt to seal, so that deletions can be tried again."""
        directory, self._directory = self._directory, None
        self._parts.clear()
        self._sealed = None
        if directory is not None:
            fs.rmtree(directory)

    def done(self) -> None:
        """Mark it as committed: its folder now belongs to the index."""
        self._state = "done"

    def _all_parts(self, base: int) -> Iterator[tuple[str, Spool]]:
        """Complete the parts with what is known only now, and yield all with their names."""
        if layout.TEXTS in self._parts:
            self._pad_texts()
            ends = records.ends_of(np.concatenate(self._text_lengths))
            self._begin(layout.TEXT_ENDS).write(ends.astype("<u8"))
        base = 0 if self._carries_seqs else base
        puts = [part.moved(base) for part in self._puts]
        deletes = [part.moved(base) for part in self._deletes]
        self._begin(layout.DOCS).write(tensors.dump(records.encode(puts, deletes)))
        yield from self._parts.items()

    def _body(self, files: Mapping[str, fs.Seal], packed: dict[str, list[int]]) -> dict[str, Any]:
        arrays = {
            name: {
                "file": growing.file,
                "dtype": growing.dtype.str,
                "shape": [growing.rows, *growing.tail],
                "per": growing.per,
            }
            for name, growing in self._growing.items()
        }
        return {
            "format": layout.FORMAT,
            "rows": self._rows,
            "deletes": self._gone,
            "info": self._info,
            "arrays": arrays,
            "files": {name: asdict(seal) for name, seal in files.items()},
            "packed": packed,
        }

    def _check_counts(self) -> None:
        for name, growing in self._growing.items():
            if growing.per == "document" and growing.rows != self._rows:
                raise ShapeMismatch(
                    f"the array {name!r} has {growing.rows} rows for {self._rows} documents."
                )
            if growing.per not in {None, "document"}:
                counts = self._growing.get(str(growing.per))
                if counts is None or counts.tail or counts.dtype.kind not in "iu":
                    raise ShapeMismatch(
                        f"the array {name!r} is counted by {growing.per!r}, which is no "
                        "one-dimensional array of whole numbers in this segment."
                    )
                if (counts.rows, counts.total) != (self._rows, growing.rows):
                    raise ShapeMismatch(
                        f"the array {name!r} has {growing.rows} rows, but {growing.per!r} counts "
                        f"{counts.total} rows of {counts.rows} documents."
                    )

    def _add_texts(self, texts: Sequence[str | None]) -> None:
        try:
            plain = [None if text is None else text.encode() for text in texts]
        except UnicodeEncodeError as problem:
            raise BadInput(f"a text is not valid Unicode: {problem}.", field="texts") from problem
        stored = [b"" if text is None else zlib.compress(text) for text in plain]
        lengths = np.array([len(text) for text in stored], np.int64)
        self._add_packed(np.frombuffer(b"".join(stored), np.uint8), lengths)

    def _add_packed(self, texts: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        spool = self._parts.get(layout.TEXTS) or self._begin(layout.TEXTS)
        self._pad_texts()
        self._text_lengths.append(lengths)
        with self._guard_or_abort():
            spool.write(texts)

    def _pad_texts(self) -> None:
        """Note that documents so far for which no text was given have none."""
        known = sum(map(len, self._text_lengths))
        self._text_lengths.append(np.zeros(self._rows - known, np.int64))

    def _begin_named(self, file: str) -> Spool:
        if file in self._parts or file in layout.RESERVED:
            raise BadInput(f"the segment already has a file {file!r}.")
        return self._begin(file)

    def _begin(self, file: str) -> Spool:
        spool = self._parts[file] = Spool(lambda: fs.Sink(self._folder() / file))
        return spool

    @contextmanager
    def _guard_or_abort(self) -> Iterator[None]:
        try:
            with self._guard():
                yield
        except BaseException:
            self.abort()
            raise

    def _folder(self) -> Path:
        if self._directory is None:
            name = f"{layout.TEMPORARY}-{os.getpid()}-{next(_NUMBERS)}"
            fs.mkdir(self._segments / name)
            self._directory = self._segments / name
        return self._directory

    def _close_sinks(self) -> None:
        for part in self._parts.values():
            part.abandon()

    def _require_open(self) -> None:
        if self._state != "open":
            raise BadInput("this segment was committed or aborted; begin another one.")
