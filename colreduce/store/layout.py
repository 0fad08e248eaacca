"""Names, limits and the version of the on-disk format; `docs/format.md` explains them."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colreduce.errors import BadInput, Damaged

FORMAT = 2  # a reader refuses a greater number
KEPT_MANIFESTS = 3  # the newest ones, so that a reader may lag a little
GRACE_SECONDS = 60.0  # what nobody refers to is kept this long for a reader that is opening it
BALLAST_BYTES = 64 << 20
MAX_MANIFEST = 64 << 20
MAX_SEGMENT_JSON = 16 << 20
MAX_ID = 256  # bytes
MAX_METADATA = 16 << 10  # bytes of JSON
SMALL = 1 << 20  # a file up to this size is read, a longer one is mapped
PACKED = 1 << 20  # what is up to this size shares one file with the other small parts of a segment
ALIGNMENT = 16  # bytes; where each part of that file begins

LOCK = "LOCK"
BALLAST = "BALLAST"
SEGMENTS = "segments"
MODELS = "models"
QUARANTINE = "quarantine"
BUILDING = "building"
JOB_JSON = "job.json"
MAX_JOB = 256 << 20
CATALOGUE = "catalogue.sqlite3"
TEMPORARY = ".tmp"
SEGMENT_JSON = "segment.json"
DOCS = "docs.bin"
PACK = "pack.bin"
TEXTS = "texts.bin"
TEXT_ENDS = "texts-ends.bin"
MODEL_FILE = "arrays.safetensors"
RESERVED = frozenset({SEGMENT_JSON, PACK, DOCS, TEXTS, TEXT_ENDS})

_MANIFEST = re.compile(r"manifest-(\d{10})\.json")
_SEGMENT = re.compile(r"seg-(\d{10})-[0-9a-f]{8}")
_PIECE = re.compile(r"piece-(\d{10})-([0-9a-f]{64})")
_MODEL = re.compile(r"model-[0-9a-f]{8,64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
# Control characters, line separators, and the marks that turn the direction of the text around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def manifest_name(generation: int) -> str:
    """Return the file name of a generation's manifest."""
    return f"manifest-{generation:010d}.json"


def manifest_generation(name: str) -> int | None:
    """Return the generation a manifest's file name tells, None for any other name."""
    found = _MANIFEST.fullmatch(name)
    return int(found[1]) if found else None


def segment_name(generation: int, sha256: str) -> str:
    """Return the folder name of a segment."""
    return f"seg-{generation:010d}-{sha256[:8]}"


def segment_generation(name: str) -> int | None:
    """Return the generation a segment's folder name tells, None for any other name."""
    found = _SEGMENT.fullmatch(name)
    return int(found[1]) if found else None


def piece_name(number: int, sha256: str) -> str:
    """Return the folder name of a finished piece of a build."""
    return f"piece-{number:010d}-{sha256}"


def piece_number(name: str) -> tuple[int, str] | None:
    """Return the number and the digest that a piece's folder name tells; None for other names."""
    found = _PIECE.fullmatch(name)
    return (int(found[1]), found[2]) if found else None


def is_model(name: str) -> bool:
    """Say whether a folder is named as a model's is."""
    return _MODEL.fullmatch(name) is not None


def is_file_name(name: str) -> bool:
    """Say whether a file of a segment may be called so; it then lies in the segment's folder."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def checked_name(name: str, what: str) -> str:
    """Return the name of an array or file if it can be one."""
    if not is_file_name(name):
        raise BadInput(
            f"{name!r} cannot name {what}: use 1 to 64 of a-z, 0-9, '_', '-' and '.', "
            "beginning with a letter or digit."
        )
    return name


def checked_id(identifier: str) -> bytes:
    """Return a document's id as bytes, or say what is wrong with it."""
    if not isinstance(identifier, str):
        raise BadInput(f"a document id must be a string, got {identifier!r}.", field="id")
    try:
        encoded = identifier.encode()
    except UnicodeEncodeError as problem:
        raise BadInput(f"the id {identifier!r} is not valid Unicode.", field="id") from problem
    if not 1 <= len(encoded) <= MAX_ID:
        raise BadInput(
            f"the id {identifier[:40]!r} has {len(encoded)} bytes; 1 to {MAX_ID} are allowed.",
            field="id",
        )
    if _CONTROL.search(identifier):
        raise BadInput(f"the id {identifier!r} holds a control character.", field="id")
    return encoded


def checked_metadata(identifier: str, metadata: Mapping[str, Any]) -> bytes:
    """Return a document's metadata as JSON bytes, or say what is wrong with it."""
    if not isinstance(metadata, Mapping):
        raise BadInput(f"the metadata of {identifier!r} must be a mapping.", field="metadata")
    try:
        encoded = to_json(dict(metadata))
    except (TypeError, ValueError, RecursionError) as problem:
        raise BadInput(
            f"the metadata of {identifier!r} cannot be written as JSON: {problem}.",
            field="metadata",
        ) from problem
    if len(encoded) > MAX_METADATA:
        raise BadInput(
            f"the metadata of {identifier!r} takes {len(encoded)} bytes; "
            f"{MAX_METADATA} are allowed.",
            field="metadata",
        )
    return encoded


def to_json(value: Any) -> bytes:
    """Return a value as compact JSON; what is not plain JSON raises TypeError or ValueError."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def plain_json(value: Any, what: str) -> Any:
    """Return a copy of the value that is made of JSON types only."""
    try:
        return json.loads(to_json(value))
    except (TypeError, ValueError, RecursionError) as problem:
        raise BadInput(f"{what} cannot be written as JSON: {problem}.") from problem


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Return the object a file of ours holds."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise Damaged(f"{path} does not hold JSON: {problem}.") from problem
    if not isinstance(value, dict):
        raise Damaged(f"{path} does not hold a JSON object.")
    return value


def require_folder(path: Path) -> None:
    """Refuse a link or a file where a folder of the index must stand."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise Damaged(f"{path} is not a folder.")
