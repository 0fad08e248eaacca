"""The client: the verbs of `colreduce.Index` over gRPC, with the same results and errors.

    with Client("localhost:50051") as client:
        hits = client.search("why is the sky blue", k=10)

One client keeps one connection and may be shared between threads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from colreduce.errors import BadInput
from colreduce.results import Document, Hit
from colreduce.rpc import codec, limits
from colreduce.rpc.status import error_of
from colreduce.rpc.v1 import admin_pb2, admin_pb2_grpc, search_pb2, search_pb2_grpc

Answer = TypeVar("Answer", bound=Message)

# Seconds that a caller waits when it does not say; the service's own limit is 30.
SEARCH_SECONDS = 2.0
OTHER_SECONDS = 30.0

# A failed call is tried again only when the server says that it did not begin with it.
# No timeout stands here: gRPC would let it cut the one that a caller gives.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [
                {"service": "colreduce.rpc.v1.Search"},
                {"service": "colreduce.rpc.v1.Admin"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

# Pings must be rarer than the 30 seconds that the server allows, or it cuts the connection.
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_metadata_size", limits.HEADER_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection that a server has."""

    name: str
    ready: bool
    problem: str
    generation: int
    documents: int


class Client:
    """Talks to a colreduce server.

    address     ``host:port``, ``dns:///name:port`` for several replicas, or ``unix:/path``
    collection  asked when a call does not name one; may be left out when the server has one
    timeout     seconds that a search may take when a call does not say
    token       shown to a server that lets in only who has one
    """

    def __init__(
        self,
        address: str,
        *,
        collection: str = "",
        timeout: float = SEARCH_SECONDS,
        token: str | None = None,
    ) -> None:
        self.address = address
        self.collection = collection
        self.timeout = timeout
        self._headers = () if token is None else (("authorization", f"Bearer {token}"),)
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._search = search_pb2_grpc.SearchStub(self._channel)
        self._admin = admin_pb2_grpc.AdminStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def search(
        self,
        query: str | Any,
        k: int = 10,
        *,
        collection: str | None = None,
        candidates: int | None = None,
        exact: bool = False,
        filter: Mapping[str, Any] | str | None = None,
        metadata: bool = True,
        timeout: float | None = None,
    ) -> list[Hit]:
        """Return the ``k`` best documents for a text or for query vectors [q, d].

        candidates  documents asked of the first stage; the recipe's number when left out
        exact       score every document, whatever the recipe says
        filter      what the metadata must be, such as ``{"year": {"gte": 2019}}`` or
                    ``"year >= 2019 and lang in (en, de)"``
        metadata    return the documents' metadata, too
        """
        request = search_pb2.SearchRequest(
            collection=self._name(collection),
            query=_query(query, "query"),
            k=_count(k, limits.K, "k"),
            candidates=_candidates(candidates),
            exact=exact,
            filter=_filter(filter),
            omit_metadata=not metadata,
        )
        return _hits(self._call(self._search.Search, request, timeout or self.timeout).hits)

    def search_many(
        self,
        queries: Sequence[str | Any],
        k: int = 10,
        *,
        collection: str | None = None,
        candidates: int | None = None,
        exact: bool = False,
        filter: Mapping[str, Any] | str | None = None,
        metadata: bool = True,
        timeout: float | None = None,
    ) -> list[list[Hit]]:
        """Search for several queries, as many per request as fit; ``timeout`` is per request."""
        results: list[list[Hit]] = []
        for part in _parts([_query(one, f"queries[{i}]") for i, one in enumerate(queries)]):
            request = search_pb2.BatchSearchRequest(
                collection=self._name(collection),
                queries=part,
                k=_count(k, limits.K, "k"),
                candidates=_candidates(candidates),
                exact=exact,
                filter=_filter(filter),
                omit_metadata=not metadata,
            )
            answer = self._call(self._search.BatchSearch, request, timeout or OTHER_SECONDS)
            results += [_hits(one.hits) for one in answer.results]
        return results

    def get(
        self, ids: Sequence[str], *, collection: str | None = None, timeout: float | None = None
    ) -> list[Document]:
        """Return stored documents by their ids; `NotFound` names one that is not there."""
        if isinstance(ids, str):
            raise BadInput(f"wanted a list of ids, got the string {ids!r}", field="ids")
        found: list[Document] = []
        for start in range(0, len(ids), limits.IDS):
            request = search_pb2.GetRequest(
                collection=self._name(collection), ids=ids[start : start + limits.IDS]
            )
            answer = self._call(self._search.Get, request, timeout or OTHER_SECONDS)
            found += [
                Document(
                    one.id,
                    codec.read_metadata(one.metadata_json),
                    one.text if one.HasField("text") else None,
                )
                for one in answer.documents
            ]
        return found

    def collections(self, *, timeout: float | None = None) -> list[Collection]:
        """Return the collections that the server has, those that cannot be searched included."""
        request = admin_pb2.ListCollectionsRequest()
        answer = self._call(self._admin.ListCollections, request, timeout or OTHER_SECONDS)
        return [
            Collection(one.name, one.ready, one.problem, one.generation, one.documents)
            for one in answer.entries
        ]

    def describe(
        self, collection: str | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return what a collection holds and costs: the keys of `Index.describe`, and some more.

        ``losses`` is the loss ledger, stage by stage; ``text_queries`` says whether it takes text.
        """
        request = admin_pb2.DescribeRequest(collection=self._name(collection))
        answer = self._call(self._admin.Describe, request, timeout or OTHER_SECONDS)
        fields = ("name", "generation", "documents", "segments", "recipe", "dim", "seed")
        figures = ("tokens_per_doc", "vectors_per_doc", "raw_bytes_per_doc")
        held = {name: getattr(answer, name) for name in fields}
        rows = max(answer.documents, 1)
        return {
            **held,
            "encoder": codec.read_metadata(answer.encoder.identity_json) or None,
            "text_queries": answer.text_queries,
            "text_queries_problem": answer.text_queries_problem,
            "versions": dict(sorted(answer.versions.items())),
            **{name: getattr(answer, name) for name in figures},
            "bytes": dict(sorted(answer.bytes.items())),
            "bytes_per_doc": {name: size / rows for name, size in sorted(answer.bytes.items())},
            "losses": [
                {"stage": one.stage, **dict(sorted(one.measures.items()))} for one in answer.losses
            ],
            "notes": codec.read_metadata(answer.notes_json),
            "ledger": codec.read_metadata(answer.ledger_json) or None,
        }

    def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """Return ``SERVING`` or ``NOT_SERVING`` for the server or for one of its services.

        Services are ``colreduce.rpc.v1.Search`` and ``colreduce.rpc.v1.Admin``.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        answer = self._call(self._health.Check, request, timeout or self.timeout)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _name(self, collection: str | None) -> str:
        return self.collection if collection is None else collection

    def _call(self, method: Callable[..., Answer], request: Message, timeout: float) -> Answer:
        try:
            return method(request, timeout=timeout, metadata=self._headers)
        except grpc.RpcError as error:
            raise error_of(error, self.address) from error


def _query(query: Any, field: str) -> search_pb2.Query:
    if isinstance(query, str):
        return search_pb2.Query(text=limits.check_text(query, f"{field}.text"))
    return search_pb2.Query(vectors=codec.to_tokens(query, f"{field}.vectors"))


def _count(value: Any, most: int, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{field} must be a whole number, got {value!r}", field=field)
    return limits.check_count(value, most, field, field)


def _candidates(value: int | None) -> int | None:
    return None if value is None else _count(value, limits.CANDIDATES, "candidates")


def _filter(wanted: Mapping[str, Any] | str | None) -> str:
    if wanted is None or (isinstance(wanted, str) and wanted.strip()):
        return wanted or ""
    if isinstance(wanted, Mapping):
        return codec.to_json(wanted, "filter")
    raise BadInput(f"wanted a mapping of fields or a line of text, got {wanted!r}", field="filter")


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


def _hits(found: Sequence[search_pb2.Hit]) -> list[Hit]:
    return [Hit(one.id, one.score, codec.read_metadata(one.metadata_json)) for one in found]
