"""The verbs of the client as requests: what to call, what to send, how to read what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from colreduce.errors import BadInput
from colreduce.results import Document, Explanation, Hit
from colreduce.rpc import answers, codec, limits
from colreduce.rpc.answers import Answer, Collection, Copy
from colreduce.rpc.explanation import from_explanation
from colreduce.rpc.v1 import admin_pb2, search_pb2, write_pb2

T = TypeVar("T")
One = TypeVar("One")

# Seconds that a caller waits when it does not say. The service's own limit is 30, and an hour for
# what takes long by nature.
SEARCH_SECONDS = 2.0
OTHER_SECONDS = 30.0
LONG_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One call of one method."""

    service: str
    method: str
    request: Message
    read: Callable[[Any], T]
    timeout: float = OTHER_SECONDS
    # Makes two smaller calls of it, whose answers one after the other are its own.
    halves: Callable[[], Iterable[Ask[T]]] | None = None


def search(
    collection: str,
    query: str | Any,
    k: int,
    *,
    candidates: int | None,
    exact: bool,
    filter: Mapping[str, Any] | str | None,
    metadata: bool,
    timings: bool = False,
) -> Ask[Answer]:
    """Ask for the documents that fit one query best."""
    request = search_pb2.SearchRequest(
        collection=collection,
        query=_query(query, "query"),
        k=_count(k, limits.K, "k"),
        candidates=_candidates(candidates),
        exact=exact,
        filter=_filter(filter),
        omit_metadata=not metadata,
        timings=timings,
    )
    return Ask("Search", "Search", request, answers.answer, SEARCH_SECONDS)


def search_many(
    collection: str,
    queries: Sequence[str | Any],
    k: int,
    *,
    candidates: int | None,
    exact: bool,
    filter: Mapping[str, Any] | str | None,
    metadata: bool,
) -> Iterator[Ask[list[list[Hit]]]]:
    """Ask several queries, as many per request as fit."""
    if isinstance(queries, str):
        raise BadInput(f"wanted a list of queries, got the string {queries!r}", field="queries")
    same = search_pb2.BatchSearchRequest(
        collection=collection,
        k=_count(k, limits.K, "k"),
        candidates=_candidates(candidates),
        exact=exact,
        filter=_filter(filter),
        omit_metadata=not metadata,
    )

    def ask(part: Sequence[search_pb2.Query]) -> Ask[list[list[Hit]]]:
        request = search_pb2.BatchSearchRequest(queries=part)
        request.MergeFrom(same)
        return Ask("Search", "BatchSearch", request, answers.many)

    for part in _parts([_query(one, f"queries[{i}]") for i, one in enumerate(queries)]):
        yield _divisible(part, ask)


def get(
    collection: str, ids: Sequence[str], pictures: bool = False
) -> Iterator[Ask[list[Document]]]:
    """Ask for stored documents, as many per request as fit."""

    def ask(part: Sequence[str]) -> Ask[list[Document]]:
        request = search_pb2.GetRequest(collection=collection, ids=part, pictures=pictures)
        return Ask("Search", "Get", request, answers.documents)

    for part in _id_parts(ids):
        yield _divisible(part, ask)


def explain(collection: str, query: str | Any, id: str) -> Ask[Explanation]:
    """Ask why a document has its score."""
    request = search_pb2.ExplainRequest(
        collection=collection, query=_query(query, "query"), id=limits.check_id(id, "id")
    )
    return Ask("Search", "Explain", request, from_explanation)


def delete(collection: str, ids: Sequence[str]) -> Iterator[Ask[int]]:
    """Delete documents, as many per request as fit."""
    for part in _id_parts(ids):
        request = write_pb2.DeleteRequest(collection=collection, ids=part)
        yield Ask("Write", "Delete", request, lambda message: int(message.deleted))


def collections() -> Ask[list[Collection]]:
    """Ask for the collections of a server."""
    request = admin_pb2.ListCollectionsRequest()
    return Ask("Admin", "ListCollections", request, answers.collections)


def describe(collection: str) -> Ask[dict[str, Any]]:
    """Ask for all that is known of a collection."""
    request = admin_pb2.DescribeRequest(collection=collection)
    return Ask("Admin", "Describe", request, answers.description)


def create(
    name: str,
    recipe: str,
    *,
    encoder: str | None,
    dim: int | None,
    seed: int,
    store_texts: bool,
    store_assignment: bool | None,
) -> Ask[str]:
    """Make a collection."""
    request = admin_pb2.CreateCollectionRequest(
        name=limits.check_name(name, "name"),
        recipe=str(recipe),
        dim=0 if dim is None else _count(dim, limits.DIM, "dim"),
        encoder=encoder or "",
        seed=seed,
        omit_texts=not store_texts,
        store_assignment=store_assignment,
    )
    return Ask("Admin", "CreateCollection", request, lambda message: str(message.recipe))


def compact(collection: str, *, purge: bool) -> Ask[int]:
    """Move all documents of a collection into one segment."""
    request = admin_pb2.CompactRequest(collection=collection, purge=purge)
    return Ask("Admin", "Compact", request, lambda message: int(message.generation), LONG_SECONDS)


def snapshot(collection: str) -> Ask[Copy]:
    """Let the server write a copy of a collection."""
    request = admin_pb2.SnapshotRequest(collection=collection)
    return Ask("Admin", "Snapshot", request, answers.copy, LONG_SECONDS)


def drop(name: str) -> Ask[int]:
    """Remove a collection with all that is in it."""
    request = admin_pb2.DropCollectionRequest(name=limits.check_name(name, "name"))
    return Ask("Admin", "DropCollection", request, lambda message: int(message.documents))


def health(service: str) -> Ask[str]:
    """Ask whether a server or one of its services is ready."""
    names = health_pb2.HealthCheckResponse.ServingStatus
    request = health_pb2.HealthCheckRequest(service=service)
    return Ask("Health", "Check", request, lambda message: str(names.Name(message.status)), 2.0)


def _divisible(part: Sequence[One], ask: Callable[[Sequence[One]], Ask[T]]) -> Ask[T]:
    """Ask for a part, or for its halves where the answer is too large for one message."""
    middle = len(part) // 2
    if not middle:
        return ask(part)
    halves = part[:middle], part[middle:]
    return replace(ask(part), halves=lambda: [_divisible(half, ask) for half in halves])


def _query(query: Any, field: str) -> search_pb2.Query:
    if isinstance(query, str):
        return search_pb2.Query(text=limits.check_text(query, f"{field}.text"))
    vectors = codec.to_tokens(query, f"{field}.vectors")
    limits.check_count(
        vectors.tokens, limits.QUERY_TOKENS, f"{field}.vectors.tokens", "the number of vectors"
    )
    return search_pb2.Query(vectors=vectors)


def seconds(given: Any, usual: float) -> float:
    """Return how long a call may take: what its caller says, or what is usual."""
    if given is None:
        return usual
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise BadInput(f"timeout must be seconds above zero, got {given!r}", field="timeout")
    return float(given)


def _count(value: Any, most: int, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{field} must be a whole number, got {value!r}", field=field)
    return limits.check_count(value, most, field, field)


def _candidates(value: int | None) -> int | None:
    return None if value is None else _count(value, limits.CANDIDATES, "candidates")


def _filter(wanted: Mapping[str, Any] | str | None) -> str:
    if wanted is None:
        return ""
    if isinstance(wanted, str) and wanted.strip():
        return limits.check_whole(wanted, "filter")
    if isinstance(wanted, Mapping):
        return codec.to_json(wanted, "filter")
    raise BadInput(f"wanted a mapping of fields or a line of text, got {wanted!r}", field="filter")


def _id_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    if isinstance(ids, str):
        raise BadInput(f"wanted a list of ids, got the string {ids!r}", field="ids")
    for place, one in enumerate(ids):
        limits.check_id(one, f"ids[{place}]")
    for start in range(0, len(ids), limits.IDS):
        yield ids[start : start + limits.IDS]


def _parts(queries: list[search_pb2.Query]) -> Iterator[list[search_pb2.Query]]:
    """Split queries into runs that fit into one request each."""
    part: list[search_pb2.Query] = []
    used = 0
    for query in queries:
        size = query.ByteSize() + 16
        if part and (len(part) == limits.QUERIES or used + size > limits.MESSAGE_BYTES // 2):
            yield part
            part, used = [], 0
        part.append(query)
        used += size
    if part:
        yield part
