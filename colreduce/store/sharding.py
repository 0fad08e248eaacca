"""A collection that lies in several indexes: a small sealed record says which.

    shards-0000000003.json             the record with the highest number is the truth
    shard-0000000003-00000/            an ordinary index, whose place in the record is its number
    shard-0000000003-00001/

A document lies in the shard that its id tells, so one that is put again goes where it was before. A
new record is published as a manifest is, by a link to a file that is on the disk already.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from colreduce.errors import AlreadyExists, BadInput, Damaged, NewerFormat, NotAnIndex
from colreduce.store import fs, layout

FORMAT = 1
MOST_SHARDS = 4096
_MOST_BYTES = 1 << 20
_SEAL = b"\n#sha256="
_RECORD = re.compile(r"shards-(\d{10})\.json")
_SHARD = re.compile(r"shard-\d{10}-\d{5}")
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Sharding:
    """Which indexes make up a collection.

    number   of the record; the highest counts
    base     what the generations of earlier records came to, so that the sum never falls
    folders  the shards' folders, in the order of their numbers
    """

    number: int
    base: int
    folders: tuple[str, ...]

    def shard_of(self, identifier: str) -> int:
        """Return the number of the shard in which a document lies."""
        return shard_of(identifier, len(self.folders))


def shard_of(identifier: str, shards: int) -> int:
    """Return in which of so many shards the document of an id lies."""
    digest = hashlib.blake2b(identifier.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def folder_name(number: int, shard: int) -> str:
    """Return the name of a shard's folder."""
    return f"shard-{number:010d}-{shard:05d}"


def require_shards(shards: int) -> None:
    """Refuse a number of shards that cannot be."""
    if not 1 <= shards <= MOST_SHARDS:
        raise BadInput(f"{shards} shards cannot be; wanted 1 to {MOST_SHARDS:,}", field="shards")


def is_sharded(root: Path) -> bool:
    """Say whether a folder is meant to hold a collection of shards."""
    try:
        return bool(_numbers(root))
    except (NotADirectoryError, PermissionError):
        return False


def newest(root: Path) -> Sharding:
    """Read the newest record; one that is damaged is refused, and never an older one taken."""
    numbers = _numbers(root)
    if not numbers:
        raise NotAnIndex(f"{root} holds no record of shards.")
    path = root / _record_name(numbers[-1])
    body, _, told = fs.read(path, _MOST_BYTES).rpartition(_SEAL)
    if hashlib.sha256(body).hexdigest().encode() != told:
        raise Damaged(f"{path} is damaged: its checksum does not fit.")
    values = layout.parse_json(body, path)
    if values.pop("format", 0) > FORMAT:
        raise NewerFormat(f"{path} was written by a newer colreduce. Upgrade colreduce to read it.")
    try:
        found = Sharding(values["number"], values["base"], tuple(values["folders"]))
        wrong = [one for one in found.folders if not _SHARD.fullmatch(one)]
        if found.number != numbers[-1] or wrong or not found.folders:
            raise ValueError("its number or its folders cannot be")
    except (KeyError, TypeError, ValueError) as problem:
        raise Damaged(f"{path} is no record of shards: {problem}.") from problem
    return found


def publish(root: Path, folders: Sequence[str], *, number: int, base: int) -> Sharding:
    """Make a record the truth; its shards are on the disk already."""
    made = Sharding(number, base, tuple(folders))
    body = layout.to_json({"format": FORMAT, **asdict(made)})
    data = body + _SEAL + hashlib.sha256(body).hexdigest().encode()
    temporary = root / f"{layout.TEMPORARY}-shards-{os.getpid()}-{next(_NUMBERS)}"
    fs.write_once(temporary, data)
    try:
        fs.link_excl(temporary, root / _record_name(number))
    except FileExistsError as problem:
        raise AlreadyExists(f"somebody else has published shards {number} of {root}") from problem
    finally:
        with suppress(OSError):
            fs.unlink(temporary)
    fs.fsync_dir(root)
    return made


def next_number(root: Path) -> int:
    """Return the number that the next record may have."""
    return max(_numbers(root), default=0) + 1


def _numbers(root: Path) -> list[int]:
    found = (_RECORD.fullmatch(entry.name) for entry in fs.list_entries(root))
    return sorted(int(one[1]) for one in found if one is not None)


def _record_name(number: int) -> str:
    return f"shards-{number:010d}.json"
