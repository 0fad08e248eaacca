"""What may pass over the wire, and how much of it. The server checks it; the client knows it.

The numbers are part of the protocol: `proto/colreduce/rpc/v1` states them beside each field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from colreduce.errors import BadInput

MESSAGE_BYTES = 8 << 20  # a whole request or answer
HEADER_BYTES = 16 << 10
DIM = 4096  # width of a vector
QUERY_TOKENS = 512  # vectors of one query
DOCUMENT_TOKENS = 8192  # vectors of one document
DOCUMENTS = 256  # documents of one message of an upsert
DOCUMENT_BYTES = 1 << 20  # one document's text
METADATA_BYTES = 16 << 10
RECIPE_BYTES = 4 << 10
QUERIES = 64  # queries of one BatchSearch
TEXT_BYTES = 64 << 10  # one query's text
FILTER_BYTES = 16 << 10
IDS = 256  # ids of one Get or Delete
ID_BYTES = 256
K = 1000  # documents returned for one query
CANDIDATES = 10_000  # documents scored exactly for one query
NORM = 1e4  # length of one vector
LEAST_NORM = 1e-18  # below it single precision takes the square of a vector for zero

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def check_name(name: str, field: str = "collection") -> str:
    """Return a collection's name if it is a proper one."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{_shown(name)} is not a collection's name; wanted a lower-case letter or digit, then "
            "at most 63 lower-case letters, digits, '_' or '-'",
            field=field,
        )
    return name


def check_id(identifier: str, field: str) -> str:
    """Return a document's id if it is a proper one."""
    if not isinstance(identifier, str):
        raise BadInput(f"an id is a string, got {identifier!r}", field=field)
    size = len(identifier.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= ID_BYTES:
        raise BadInput(f"an id is 1 to {ID_BYTES} bytes long, got {size}", field=field)
    if not identifier.isprintable():  # control characters, and those that turn text around
        raise BadInput(
            f"the id {_shown(identifier)} holds a character that cannot be printed", field=field
        )
    return identifier


def check_ids(ids: Sequence[str]) -> None:
    """Raise if there are none, too many, or one that is not proper."""
    check_count(len(ids), IDS, "ids", "the number of ids")
    for place, one in enumerate(ids):
        check_id(one, f"ids[{place}]")


def check_count(value: int, most: int, field: str, what: str) -> int:
    """Return a number if it lies between 1 and ``most``."""
    if not 1 <= value <= most:
        raise BadInput(f"{what} must be 1 to {most:,}, got {value:,}", field=field)
    return value


def check_size(text: str, most: int, field: str, what: str) -> None:
    """Raise if a text takes more than ``most`` bytes."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > most:
        raise BadInput(f"{what} is at most {most:,} bytes long, got {size:,}", field=field)


def check_text(text: str, field: str) -> str:
    """Return a query's text if there is some and not too much."""
    check_whole(text, field)
    check_size(text, TEXT_BYTES, field, "a text")
    if not text.strip():
        raise BadInput("the text is empty", field=field)
    return text


def check_whole(text: str, field: str) -> str:
    """Return a text that can be sent: one without halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"place {error.start} of the text holds {text[error.start]!r}, half of a character",
            field=field,
        ) from error
    return text


def _shown(text: str) -> str:
    """Quote what somebody sent, cut to a length fit for a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
