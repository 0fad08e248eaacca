"""One method per rpc: read the request, ask the collection, write the answer.

The guard hands every method a `Call` in the place of gRPC's own context.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.index import Hit
from colreduce.rpc import codec, limits
from colreduce.rpc.v1 import admin_pb2, admin_pb2_grpc, search_pb2, search_pb2_grpc
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.open_indexes import OpenIndexes

DEFAULT_K = 10


class SearchServicer(search_pb2_grpc.SearchServicer):
    """Answers questions about documents."""

    def __init__(self, indexes: OpenIndexes) -> None:
        self._indexes = indexes

    def Search(self, request: search_pb2.SearchRequest, call: Any) -> search_pb2.SearchResponse:
        """Return the documents that fit one query best."""
        collection = self._indexes.get(request.collection)
        query = _query(request.query, "query", collection)
        generation, [found] = _search(collection, [query], request, call)
        hits = _hits(found, request.omit_metadata)
        return search_pb2.SearchResponse(hits=hits, generation=generation)

    def BatchSearch(
        self, request: search_pb2.BatchSearchRequest, call: Any
    ) -> search_pb2.BatchSearchResponse:
        """Answer several queries on the same generation."""
        collection = self._indexes.get(request.collection)
        count = len(request.queries)
        limits.check_count(count, limits.QUERIES, "queries", "the number of queries")
        queries = [
            _query(one, f"queries[{place}]", collection)
            for place, one in enumerate(request.queries)
        ]
        generation, found = _search(collection, queries, request, call)
        results = [search_pb2.HitList(hits=_hits(hits, request.omit_metadata)) for hits in found]
        return search_pb2.BatchSearchResponse(results=results, generation=generation)

    def Get(self, request: search_pb2.GetRequest, call: Any) -> search_pb2.GetResponse:
        """Return documents by their ids."""
        collection = self._indexes.get(request.collection)
        limits.check_count(len(request.ids), limits.IDS, "ids", "the number of ids")
        for place, one in enumerate(request.ids):
            limits.check_id(one, f"ids[{place}]")
        generation, found = collection.get(list(request.ids))
        documents = [
            search_pb2.Document(id=one.id, text=one.text, metadata_json=codec.to_json(one.metadata))
            for one in found
        ]
        return search_pb2.GetResponse(documents=documents, generation=generation)


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """Says what the server holds."""

    def __init__(self, indexes: OpenIndexes) -> None:
        self._indexes = indexes

    def ListCollections(
        self, request: admin_pb2.ListCollectionsRequest, call: Any
    ) -> admin_pb2.ListCollectionsResponse:
        """Return the collections, those that cannot be opened included."""
        entries = [_collection(one, self._indexes.say(one.problem)) for one in self._indexes.all()]
        return admin_pb2.ListCollectionsResponse(entries=entries)

    def Describe(self, request: admin_pb2.DescribeRequest, call: Any) -> admin_pb2.DescribeResponse:
        """Return everything there is to know about one collection."""
        collection = self._indexes.get(request.collection)
        facts = collection.describe()
        same = ("generation", "documents", "segments", "recipe", "dim", "seed", "versions")
        figures = ("tokens_per_doc", "vectors_per_doc", "raw_bytes_per_doc", "bytes")
        notes, ledger = dict(facts["notes"]), facts["ledger"]
        return admin_pb2.DescribeResponse(
            name=collection.name,
            encoder=_encoder(facts["encoder"]),
            text_queries=collection.text_problem is None,
            text_queries_problem=self._indexes.say(collection.text_problem),
            losses=_losses(notes.pop("losses", []) or _stages(ledger)),
            notes_json=codec.to_json(notes),
            ledger_json="" if ledger is None else codec.to_json(ledger),
            **{name: facts[name] for name in (*same, *figures)},
        )


def _search(
    collection: Collection,
    queries: Sequence[Any],
    request: search_pb2.SearchRequest | search_pb2.BatchSearchRequest,
    call: Call,
) -> tuple[int, list[list[Hit]]]:
    k = request.k if request.HasField("k") else DEFAULT_K
    candidates = request.candidates if request.HasField("candidates") else None
    limits.check_count(k, limits.K, "k", "k")
    if candidates is not None:
        limits.check_count(candidates, limits.CANDIDATES, "candidates", "candidates")
    return collection.search(
        queries,
        k,
        candidates=candidates,
        exact=request.exact,
        filter=_filter(request.filter),
        check=call.deadline.check,
        charge=call.charge,
    )


def _filter(text: str) -> dict[str, Any] | str | None:
    """Return a filter as the index reads it: a mapping for JSON, else one line."""
    if text.lstrip().startswith("{"):
        return codec.from_json(text, "filter", most=limits.FILTER_BYTES)
    limits.check_size(text, limits.FILTER_BYTES, "filter", "a filter")
    return text or None


def _query(query: search_pb2.Query, field: str, collection: Collection) -> Any:
    """Return a query's text or vectors, checked against the limits and the collection."""
    kind = query.WhichOneof("query")
    if kind is None:
        raise BadInput("there is no query: set text or vectors", field=field)
    if kind == "text":
        collection.require_text(f"{field}.text")
        return limits.check_text(query.text, f"{field}.text")
    vectors = codec.from_tokens(query.vectors, f"{field}.vectors")
    if vectors.shape[1] != collection.index.dim:
        raise ShapeMismatch(
            f"this collection takes {collection.index.dim}-wide vectors; the query has "
            f"{vectors.shape[1]}. Encode queries with the model it was built with.",
            field=f"{field}.vectors.dim",
        )
    return vectors


def _hits(found: Iterable[Hit], bare: bool) -> list[search_pb2.Hit]:
    return [
        search_pb2.Hit(
            id=one.id,
            score=one.score,
            metadata_json="" if bare else codec.to_json(one.metadata),
        )
        for one in found
    ]


def _collection(one: Collection, problem: str) -> admin_pb2.Collection:
    index = one.index if one.ready else None
    return admin_pb2.Collection(
        name=one.name,
        ready=one.ready,
        problem=problem,
        generation=index.generation if index is not None else 0,
        documents=len(index) if index is not None else 0,
    )


def _encoder(identity: dict[str, Any] | None) -> admin_pb2.Encoder | None:
    if identity is None:
        return None
    return admin_pb2.Encoder(
        name=str(identity.get("name", "")),
        dim=int(identity.get("dim", 0)),
        sha256=str(identity.get("sha256", "")),
        identity_json=codec.to_json(identity),
    )


def _stages(ledger: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return what every stage of a measured ledger left, without the intervals."""
    stages = [] if ledger is None else ledger["stages"]
    return [
        {"stage": one["stage"], **{name: found["value"] for name, found in one["values"].items()}}
        for one in stages
    ]


def _losses(ledger: Sequence[dict[str, Any]]) -> list[admin_pb2.StageLoss]:
    """Write the loss ledger; every number of a stage is a measure."""
    return [
        admin_pb2.StageLoss(
            stage=str(entry.get("stage", "")),
            measures={
                key: float(value) for key, value in entry.items() if isinstance(value, (int, float))
            },
        )
        for entry in ledger
    ]
