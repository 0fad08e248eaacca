"""What the client returns, read from the messages of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colreduce.errors import ColreduceError, Unavailable
from colreduce.results import Document, Hit
from colreduce.rpc import codec
from colreduce.rpc.ledger import from_ledger
from colreduce.rpc.v1 import admin_pb2, search_pb2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, on which generation, and how long each stage took on the server.

    partial  a part of the collection did not answer in time: better documents may be missing
    """

    hits: list[Hit]
    generation: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    partial: bool = False

    def whole(self) -> list[Hit]:
        """Return the hits, or raise `Unavailable` if a part of the collection is missing."""
        _require_whole(self.partial)
        return self.hits


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection that a server has."""

    name: str
    ready: bool
    problem: str
    generation: int
    documents: int
    writable: bool
    write_problem: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A snapshot that a server wrote: the file's name in the server's folder."""

    name: str
    generation: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that was not written, and why."""

    id: str
    error: ColreduceError


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of the documents of an upsert so far."""

    written: int = 0
    refused: Sequence[Refusal] = ()
    generation: int = 0  # the newest that shows some of them


def _require_whole(partial: bool) -> None:
    if partial:
        raise Unavailable(
            "a part of the collection did not answer in time, so better documents may be missing. "
            "Try again, or take what there is by answer(), which says that it is partial."
        )


def hits(found: Sequence[search_pb2.Hit]) -> list[Hit]:
    """Read the documents that a search found."""
    return [Hit(one.id, one.score, codec.read_metadata(one.metadata_json)) for one in found]


def answer(message: search_pb2.SearchResponse) -> Answer:
    """Read the answer to one query."""
    seconds = {one.stage: one.milliseconds / 1000 for one in message.timings}
    return Answer(hits(message.hits), message.generation, seconds, message.partial)


def many(message: search_pb2.BatchSearchResponse) -> list[list[Hit]]:
    """Read the answers to several queries; `Unavailable` if a part of the collection is missing."""
    _require_whole(message.partial)
    return [hits(one.hits) for one in message.results]


def documents(message: search_pb2.GetResponse) -> list[Document]:
    """Read stored documents."""
    return [
        Document(
            one.id,
            codec.read_metadata(one.metadata_json),
            one.text if one.HasField("text") else None,
            picture=one.picture if one.HasField("picture") else None,
        )
        for one in message.documents
    ]


def collections(message: admin_pb2.ListCollectionsResponse) -> list[Collection]:
    """Read the collections that a server has."""
    return [
        Collection(
            one.name,
            one.ready,
            one.problem,
            one.generation,
            one.documents,
            one.writable,
            one.write_problem,
        )
        for one in message.entries
    ]


def description(message: admin_pb2.DescribeResponse) -> dict[str, Any]:
    """Read what a collection holds and costs: the keys of `Index.describe`, and some more."""
    same = ("name", "generation", "documents", "segments", "recipe", "dim", "seed")
    figures = ("tokens_per_doc", "vectors_per_doc", "raw_bytes_per_doc")
    state = ("text_queries", "text_queries_problem", "writable", "write_problem")
    rows = max(message.documents, 1)
    return {
        **{name: getattr(message, name) for name in same},
        "encoder": codec.read_metadata(message.encoder.identity_json) or None,
        **{name: getattr(message, name) for name in state},
        "versions": dict(sorted(message.versions.items())),
        **{name: getattr(message, name) for name in figures},
        "bytes": dict(sorted(message.bytes.items())),
        "bytes_per_doc": {name: size / rows for name, size in sorted(message.bytes.items())},
        "ledger": from_ledger(message.ledger) if message.HasField("ledger") else None,
        "notes": codec.read_metadata(message.notes_json),
    }


def copy(message: admin_pb2.SnapshotResponse) -> Copy:
    """Read what a snapshot is called."""
    return Copy(message.name, message.generation, message.bytes)
