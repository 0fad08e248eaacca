"""Documents from JSONL files, from BEIR's folders and from TREC's files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from colreduce.embed.pages import PageFile, recorded_page
from colreduce.errors import BadData
from colreduce.evaluate.beir import read_documents
from colreduce.evaluate.records import record_of
from colreduce_indexer.sources.base import Batch, PageRecord, in_batches

# A number, a place, and a record or what is wrong with it.
Numbered = tuple[int, str, Any]


@dataclass(frozen=True)
class Texts:
    """Files of documents, one after the other.

    pages  the documents are pages, whose pictures their metadata names
    """

    name: str
    files: Sequence[Path]
    vectors: bool = False
    pages: bool = False

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Read the files; the lines before ``start`` are counted and not looked at."""
        return in_batches(self._records(start))

    def state(self) -> list[list[Any]] | None:
        """Return the size and the time of every file."""
        return states(self.files)

    def _records(self, start: int) -> Iterator[Numbered]:
        number = 0
        for file in self.files:
            reader = _json_lines if _holds_json(file) else _markup
            for place, read in reader(file):
                if number >= start:
                    record = read()
                    yield number, place, paged(record, file.parent) if self.pages else record
                number += 1


def paged(record: Any, folder: Path) -> Any:
    """Return a record with the page that it names, or what is wrong with either."""
    if isinstance(record, str):
        return record
    page = recorded_page(record.metadata, folder)
    if page is None:
        return (
            f"{record.id!r} is no page: wanted the name of a picture or PDF in {folder} as 'image' "
            "in its metadata"
        )
    try:
        with PageFile(page.file) as file:
            sheet = file.sheet(page.number)
    except BadData as problem:
        return str(problem)
    return PageRecord(record.id, record.text or sheet.text, record.metadata, page)


def states(files: Sequence[Path]) -> list[list[Any]]:
    """Return what shows whether files have changed: their names, sizes and times."""
    known = [(file.name, file.stat()) for file in files]
    return [[name, told.st_size, told.st_mtime_ns] for name, told in known]


def _holds_json(path: Path) -> bool:
    first = next((line.strip() for line in islice(_lines(path), 1000) if line.strip()), b"")
    return first.removeprefix(b"\xef\xbb\xbf")[:1] in (b"{", b"[", b"") or ".jsonl" in path.name


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, packed or not."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path} after line {number}: the packed file is damaged: {error}") from error
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror or error}") from error


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place of each line that is not empty, and a function that reads it."""
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield f"{path} line {number}", lambda line=line, first=number == 1: _record(line, first)


def _record(line: bytes, first: bool) -> Any:
    try:
        return record_of(line.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n"), "")
    except UnicodeDecodeError as error:
        return f"not UTF-8 text ({error.reason})"
    except BadData as error:
        return str(error).removeprefix(": ")


def _markup(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the documents of a table or of TREC's markup, where one mistake spoils what follows."""
    for number, record in enumerate(read_documents(path), start=1):
        yield f"{path} document {number}", lambda record=record: record
