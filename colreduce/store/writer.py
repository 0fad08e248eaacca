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
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.store import fs, layout, records, tensors

log = logging.getLogger(__name__)
_NUMBERS = itertools.count()


@dataclass
class _Growing:
    """An array that is being streamed to its file."""

    sink: fs.Sink
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
        self._files: dict[str, fs.Seal] = {}
        self._growing: dict[str, _Growing] = {}
        self._info: dict[str, Any] = {}
        # (id, order, metadata) and (id, order); the order becomes a seq when it is committed.
        self._puts: list[tuple[bytes, int, bytes]] = []
        self._deletes: list[tuple[bytes, int]] = []
        self._carries_seqs = False
        self._text_ends: list[int] = []
        self._texts: fs.Sink | None = None
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
        return len(self._puts)

    @property
    def empty(self) -> bool:
        """Whether committing it would change nothing."""
        return not self._puts and not self._deletes and not self._growing and not self._files

    @property
    def only_deletes(self) -> bool:
        """Whether it holds nothing but deletions, which are let through on a full disk."""
        holds_files = self._growing or self._files or self._texts is not None
        return bool(self._deletes) and not self._puts and not holds_files

    @property
    def operations(self) -> int:
        """How many seqs it takes."""
        return 0 if self._carries_seqs else len(self._puts) + len(self._deletes)

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
        if texts is not None or self._texts is not None:
            self._add_texts(texts if texts is not None else [None] * len(ids))
        first = len(self._puts) + len(self._deletes)
        orders = range(first, first + len(ids))
        self._puts += zip(encoded, orders, told, strict=True)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents; one that is not there does no harm."""
        self._require_open()
        encoded = [layout.checked_id(identifier) for identifier in ids]
        first = len(self._puts) + len(self._deletes)
        self._deletes += zip(encoded, range(first, first + len(ids)), strict=True)

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
            sink = self._create(file)
            growing = _Growing(sink, file, rows.dtype, rows.shape[1:], per)
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
            growing.sink.write(rows.reshape(-1).view(np.uint8).data if rows.size else b"")

    def blob(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Store one file that a function writes, such as a FAISS index."""
        self._require_open()
        sink = self._create(layout.checked_name(name, "a file"))
        try:
            with self._guard_or_abort():
                write(sink.stream)
                self._files[name] = sink.finish()
        finally:
            sink.abandon()

    def note(self, **info: Any) -> None:
        """Keep JSON values beside the segment."""
        self._require_open()
        self._info.update(layout.plain_json(info, "what is noted of a segment"))

    def carry(
        self,
        puts: Sequence[tuple[bytes, int, bytes]],
        *,
        deletes: Sequence[tuple[bytes, int]] = (),
        texts: Sequence[bytes] | None = None,
    ) -> None:
        """Take records over from other segments with the seqs they have; texts as stored."""
        self._require_open()
        self._carries_seqs = True
        if texts is not None or self._texts is not None:
            self._add_packed([b""] * len(puts) if texts is None else texts)
        self._puts += puts
        self._deletes += deletes

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
            for growing in self._growing.values():
                self._files[growing.file] = growing.sink.finish()
            if self._texts is not None:
                self._files[layout.TEXTS] = self._texts.finish()
                ends = np.array([0, *self._text_ends], "<u8").tobytes()
                self._files[layout.TEXT_ENDS] = fs.write_once(
                    self._folder() / layout.TEXT_ENDS, ends
                )
            docs = tensors.dump(self._records(0 if self._carries_seqs else base))
            self._files[layout.DOCS] = fs.write_once(self._folder() / layout.DOCS, docs)
            seal = fs.write_once(self._folder() / layout.SEGMENT_JSON, layout.to_json(self._body()))
            fs.fsync_dir(self._folder())
        self._sealed = Sealed(self._folder(), seal, len(self._puts), len(self._deletes))
        return self._sealed

    def reopen(self) -> None:
        """Forget a failed attempt to seal, so that deletions can be tried again."""
        directory, self._directory = self._directory, None
        self._files.clear()
        self._sealed = None
        if directory is not None:
            fs.rmtree(directory)

    def done(self) -> None:
        """Mark it as committed: its folder now belongs to the index."""
        self._state = "done"

    def _records(self, base: int) -> dict[str, NDArray[Any]]:
        puts = [(name, base + order, metadata) for name, order, metadata in self._puts]
        return records.encode(puts, [(name, base + order) for name, order in self._deletes])

    def _body(self) -> dict[str, Any]:
        arrays = {
            name: {
                "file": growing.file,
                "dtype": growing.dtype.str,
                "shape": [growing.rows, *growing.tail],
                "per": growing.per,
            }
            for name, growing in self._growing.items()
        }
        files = {name: asdict(self._files[name]) for name in sorted(self._files)}
        rows = {"rows": len(self._puts), "deletes": len(self._deletes)}
        return {
            "format": layout.FORMAT,
            **rows,
            "info": self._info,
            "arrays": arrays,
            "files": files,
        }

    def _check_counts(self) -> None:
        for name, growing in self._growing.items():
            if growing.per == "document" and growing.rows != len(self._puts):
                raise ShapeMismatch(
                    f"the array {name!r} has {growing.rows} rows for {len(self._puts)} documents."
                )
            if growing.per not in {None, "document"}:
                counts = self._growing.get(str(growing.per))
                if counts is None or counts.tail or counts.dtype.kind not in "iu":
                    raise ShapeMismatch(
                        f"the array {name!r} is counted by {growing.per!r}, which is no "
                        "one-dimensional array of whole numbers in this segment."
                    )
                if (counts.rows, counts.total) != (len(self._puts), growing.rows):
                    raise ShapeMismatch(
                        f"the array {name!r} has {growing.rows} rows, but {growing.per!r} counts "
                        f"{counts.total} rows of {counts.rows} documents."
                    )

    def _add_texts(self, texts: Sequence[str | None]) -> None:
        try:
            plain = [None if text is None else text.encode() for text in texts]
        except UnicodeEncodeError as problem:
            raise BadInput(f"a text is not valid Unicode: {problem}.", field="texts") from problem
        self._add_packed([b"" if text is None else zlib.compress(text) for text in plain])

    def _add_packed(self, texts: Sequence[bytes]) -> None:
        if self._texts is None:
            self._texts = self._create(layout.TEXTS)
            self._text_ends = [0] * len(self._puts)
        end = self._text_ends[-1] if self._text_ends else 0
        for text in texts:
            end += len(text)
            self._text_ends.append(end)
        with self._guard_or_abort():
            self._texts.write(b"".join(texts))

    def _create(self, file: str) -> fs.Sink:
        known = {growing.file for growing in self._growing.values()} | set(self._files)
        if file in known or (file in layout.RESERVED and file != layout.TEXTS):
            raise BadInput(f"the segment already has a file {file!r}.")
        with self._guard_or_abort():
            return fs.Sink(self._folder() / file)

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
        for growing in self._growing.values():
            growing.sink.abandon()
        if self._texts is not None:
            self._texts.abandon()

    def _require_open(self) -> None:
        if self._state != "open":
            raise BadInput("this segment was committed or aborted; begin another one.")
