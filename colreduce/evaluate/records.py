"""Documents and queries from JSONL files, one line at a time.

A line is ``{"_id": ..., "title": ..., "text": ..., "metadata": {...}}``; title and metadata may be
lacking, and ``id`` does for ``_id``. Files ending in ``.gz`` are unpacked on the way. Whatever is
wrong with a file is a `BadData` that names the file and the line.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colreduce.errors import BadData


@dataclass(frozen=True, slots=True)
class Record:
    """One document or query.

    ``text`` is the title, a space and the text, without spaces at the ends. It may be empty: such
    a document is kept and indexed as what the encoder makes of an empty string.
    """

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, packed or not, with their numbers; empty ones are skipped."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise BadData(f"{path} line {number}: not UTF-8 text ({error.reason})") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{path} after line {number}: the packed file is damaged: {error}") from error
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror or error}") from error


def records(path: Path) -> Iterator[Record]:
    """Yield the records of a JSONL file in their order; an id that comes twice is an error."""
    seen: dict[str, int] = {}
    for number, line in numbered_lines(path):
        record = record_of(line, f"{path} line {number}")
        if record.id in seen:
            raise BadData(
                f"{path} line {number}: the id {record.id!r} was on line {seen[record.id]} already"
            )
        seen[record.id] = number
        yield record


def record_of(line: str, where: str) -> Record:
    """Return the record on one line, or say what is wrong with it and ``where``."""
    return record_from(object_of(line, where), where)


def object_of(line: str, where: str) -> dict[str, Any]:
    """Return the JSON object on one line, or say what is wrong with it and ``where``."""
    try:
        given = json.loads(line)
    except ValueError as error:
        raise BadData(f"{where}: not a whole JSON record ({error})") from error
    if not isinstance(given, dict):
        raise BadData(f"{where}: wanted a JSON object, got {type(given).__name__}")
    return given


def record_from(given: Mapping[str, Any], where: str) -> Record:
    """Return a record that was read already, or say what is wrong with it and ``where``."""
    name = given.get("_id", given.get("id"))
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name:
        raise BadData(f"{where}: no '_id'; wanted a string that is not empty")
    text, title = given.get("text"), given.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        wrong = "text" if not isinstance(text, str) else "title"
        raise BadData(f"{where}: the record {name!r} has no '{wrong}' that is a string")
    metadata = given.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise BadData(f"{where}: the 'metadata' of {name!r} is not an object")
    return Record(name, f"{title} {text}".strip(), metadata)
