"""Answers questions about documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.index import Hit
from colreduce.rpc import codec, limits
from colreduce.rpc.explanation import to_explanation
from colreduce.rpc.v1 import search_pb2
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.open_indexes import OpenIndexes

DEFAULT_K = 10


class SearchServicer:
    """Answers questions about documents."""

    def __init__(self, indexes: OpenIndexes) -> None:
        self._indexes = indexes

    def Search(self, request: search_pb2.SearchRequest, call: Call) -> search_pb2.SearchResponse:
        """Return the documents that fit one query best."""
        collection = self._indexes.asked(request.collection, call)
        query = _query(request.query, "query", collection)
        generation, [found] = _search(collection, [query], request, call)
        return search_pb2.SearchResponse(
            hits=_hits(found, request.omit_metadata),
            generation=generation,
            timings=_timings(call) if request.timings else (),
            partial=call.partial,
        )

    def BatchSearch(
        self, request: search_pb2.BatchSearchRequest, call: Call
    ) -> search_pb2.BatchSearchResponse:
        """Answer several queries on the same generation."""
        collection = self._indexes.asked(request.collection, call)
        count = len(request.queries)
        limits.check_count(count, limits.QUERIES, "queries", "the number of queries")
        queries = [
            _query(one, f"queries[{place}]", collection)
            for place, one in enumerate(request.queries)
        ]
        generation, found = _search(collection, queries, request, call)
        return search_pb2.BatchSearchResponse(
            results=[search_pb2.HitList(hits=_hits(hits, request.omit_metadata)) for hits in found],
            generation=generation,
            timings=_timings(call) if request.timings else (),
            partial=call.partial,
        )

    def Get(self, request: search_pb2.GetRequest, call: Call) -> search_pb2.GetResponse:
        """Return documents by their ids."""
        collection = self._indexes.asked(request.collection, call)
        limits.check_ids(request.ids)
        call.cost += len(request.ids)
        generation, found = collection.get(list(request.ids), request.pictures)
        documents = [
            search_pb2.Document(
                id=one.id,
                text=one.text,
                metadata_json=codec.to_json(one.metadata),
                picture=one.picture,
            )
            for one in found
        ]
        return search_pb2.GetResponse(documents=documents, generation=generation)

    def Explain(self, request: search_pb2.ExplainRequest, call: Call) -> search_pb2.ExplainResponse:
        """Say why a document has its score for a query."""
        collection = self._indexes.asked(request.collection, call)
        query = _query(request.query, "query", collection)
        limits.check_id(request.id, "id")
        generation, told = collection.explain(query, request.id, call=call)
        return to_explanation(told, generation)


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
        call=call,
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


def _timings(call: Call) -> list[search_pb2.StageTime]:
    """Write how long each stage took so far, and all of it."""
    spent = {**call.seconds, "total": call.total}
    return [
        search_pb2.StageTime(stage=stage, milliseconds=1000 * seconds)
        for stage, seconds in spent.items()
    ]
