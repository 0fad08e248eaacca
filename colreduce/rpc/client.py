"""The client: the verbs of `colreduce.Index` over gRPC, with the same results and errors.

    with Client("localhost:50051") as client:
        hits = client.search("why is the sky blue", k=10)

One client keeps one connection and may be shared between threads. `AsyncClient` is its twin.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from colreduce.errors import AnswerTooLarge, ServiceError, Unavailable
from colreduce.results import Document, Explanation, Hit
from colreduce.rpc import verbs
from colreduce.rpc.answers import Answer, Collection, Copy, Upserted
from colreduce.rpc.channel import Way
from colreduce.rpc.status import error_of
from colreduce.rpc.upload import Progress, Upload, together
from colreduce.rpc.v1 import admin_pb2_grpc, search_pb2_grpc, write_pb2, write_pb2_grpc
from colreduce.rpc.verbs import SEARCH_SECONDS, Ask

T = TypeVar("T")


class Client:
    """Talks to a colreduce server.

    address      ``host:port``, ``dns:///name:port`` for several replicas, or ``unix:/path``
    collection   asked when a call does not name one; may be left out when the server has one
    timeout      seconds that a search may take when a call does not say
    token        shown to a server that lets in only who has one
    tls          encrypt, and trust the authorities that this machine trusts
    ca           encrypt, and trust the authorities in this PEM file instead
    certificate  what this client shows a server that asks for it, a PEM file, with its ``key``
    server_name  the name that the server's certificate must bear; by default that of the address
    insecure     send the token although nothing is encrypted
    """

    def __init__(
        self,
        address: str,
        *,
        collection: str = "",
        timeout: float = SEARCH_SECONDS,
        token: str | None = None,
        tls: bool = False,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
        server_name: str | None = None,
        insecure: bool = False,
    ) -> None:
        self.collection = collection
        self.timeout = timeout
        self._closed = False
        self._way = Way(address, token, tls, ca, certificate, key, server_name, insecure)
        self._channel = self._way.channel()
        self._any_channel = self._way.channel(ready=False)
        self._stubs: dict[str, Any] = {
            "Search": search_pb2_grpc.SearchStub(self._channel),
            "Write": write_pb2_grpc.WriteStub(self._channel),
            "Admin": admin_pb2_grpc.AdminStub(self._channel),
            "Health": health_pb2_grpc.HealthStub(self._any_channel),
        }

    @property
    def address(self) -> str:
        """Return where the server is."""
        return self._way.address

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

        `Unavailable` where a part of the collection did not answer; `answer` gives what there is.
        """
        ask = verbs.search(
            self._name(collection),
            query,
            k,
            candidates=candidates,
            exact=exact,
            filter=filter,
            metadata=metadata,
        )
        return self._do(ask, self.timeout if timeout is None else timeout).whole()

    def answer(
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
    ) -> Answer:
        """Search as `search` does; say also on which generation, and how long each stage took."""
        ask = verbs.search(
            self._name(collection),
            query,
            k,
            candidates=candidates,
            exact=exact,
            filter=filter,
            metadata=metadata,
            timings=True,
        )
        return self._do(ask, self.timeout if timeout is None else timeout)

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
        asks = verbs.search_many(
            self._name(collection),
            queries,
            k,
            candidates=candidates,
            exact=exact,
            filter=filter,
            metadata=metadata,
        )
        return [hits for ask in asks for hits in self._all_of(ask, timeout)]

    def get(
        self,
        ids: Sequence[str],
        *,
        pictures: bool = False,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> list[Document]:
        """Return stored documents by their ids; `NotFound` names one that is not there."""
        asks = verbs.get(self._name(collection), ids, pictures)
        return [one for ask in asks for one in self._all_of(ask, timeout)]

    def explain(
        self,
        query: str | Any,
        id: str,
        *,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> Explanation:
        """Say why a document has its score for a text or for query vectors, as `Index.explain`."""
        return self._do(verbs.explain(self._name(collection), query, id), timeout)

    def add(
        self,
        ids: Sequence[str],
        documents: Sequence[str] | None = None,
        *,
        embeddings: Sequence[Any] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        collection: str | None = None,
    ) -> int:
        """Add documents as `Index.add` does; return a generation that shows all of them.

        One that cannot be written raises why, when the others have been.
        """
        given = together(ids, documents, embeddings, metadata)
        report = self.upsert(given, collection=collection)
        if report.refused:
            raise report.refused[0].error
        return report.generation

    def upsert(
        self,
        documents: Iterable[Document],
        *,
        collection: str | None = None,
        progress: Progress | None = None,
    ) -> Upserted:
        """Put documents one after the other, or replace those whose id is there.

        documents  read as they are sent, so there may be more than fit into memory
        progress   called with the report so far, whenever the server has answered
        What the report counts as written is on the server's disk. When the connection breaks, what
        was not answered is sent again; what a busy server turns away, too.
        """
        self._require_open()
        upload = Upload(documents, self._name(collection), progress)
        while True:
            sending: queue.SimpleQueue[write_pb2.UpsertRequest | None] = queue.SimpleQueue()
            call = self._stubs["Write"].Upsert(iter(sending.get, None), metadata=self._way.headers)
            try:
                self._converse(upload, sending, call)
                return upload.report
            except grpc.RpcError as error:
                pause = upload.broken(error_of(error, self.address))
            finally:
                sending.put(None)
                call.cancel()
            time.sleep(pause)

    def _converse(
        self,
        upload: Upload,
        sending: queue.SimpleQueue[write_pb2.UpsertRequest | None],
        answers: Iterator[write_pb2.UpsertResponse],
    ) -> None:
        while True:
            while (message := upload.next_message()) is not None:
                sending.put(message)
            if not upload.waiting:
                sending.put(None)
                next(answers, None)  # the server's goodbye
                return
            answer = next(answers, None)
            if answer is None:
                raise Unavailable(f"{self.address} ended the stream before all was answered")
            time.sleep(upload.answered(answer))

    def delete(
        self, ids: Sequence[str], *, collection: str | None = None, timeout: float | None = None
    ) -> int:
        """Delete documents; return how many of the ids were there."""
        asks = verbs.delete(self._name(collection), ids)
        return sum([self._do(ask, timeout) for ask in asks])

    def collections(self, *, timeout: float | None = None) -> list[Collection]:
        """Return the collections that the server has, those that cannot be searched included."""
        return self._do(verbs.collections(), timeout)

    def describe(
        self, collection: str | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return what a collection holds and costs: the keys of `Index.describe`, and some more.

        ``ledger`` is the loss ledger, stage by stage; ``text_queries`` says whether it takes text,
        and ``writable`` whether it can be changed.
        """
        return self._do(verbs.describe(self._name(collection)), timeout)

    def create(
        self,
        name: str,
        recipe: str = "balanced",
        *,
        encoder: str | None = None,
        dim: int | None = None,
        seed: int = 0,
        store_texts: bool = True,
        store_assignment: bool | None = None,
        timeout: float | None = None,
    ) -> str:
        """Make an empty collection as `Index.create` does; return its recipe.

        encoder  the name or the sha256 of a model that the server has loaded
        dim      the vectors' width, for a collection that is given vectors only
        """
        ask = verbs.create(
            name,
            recipe,
            encoder=encoder,
            dim=dim,
            seed=seed,
            store_texts=store_texts,
            store_assignment=store_assignment,
        )
        return self._do(ask, timeout)

    def compact(
        self,
        *,
        purge: bool = False,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Move all documents into one segment; return the generation.

        purge  also remove every byte of documents that were deleted or replaced
        """
        return self._do(verbs.compact(self._name(collection), purge=purge), timeout)

    def snapshot(self, *, collection: str | None = None, timeout: float | None = None) -> Copy:
        """Let the server write a complete copy into its own folder; return the file's name."""
        return self._do(verbs.snapshot(self._name(collection)), timeout)

    def drop(self, name: str, *, timeout: float | None = None) -> int:
        """Remove a collection with all that is in it; return how many documents that were."""
        return self._do(verbs.drop(name), timeout)

    def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """Return ``SERVING`` or ``NOT_SERVING`` for the server or for one of its services.

        Services are ``colreduce.rpc.v1.Search``, ``.Write`` and ``.Admin``; of one collection,
        ``colreduce.rpc.v1.Search/NAME`` and ``.Write/NAME``.
        """
        return self._do(verbs.health(service), self.timeout if timeout is None else timeout)

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._channel.close()
        self._any_channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ServiceError("this client was closed: make another one")

    def _name(self, collection: str | None) -> str:
        return self.collection if collection is None else collection

    def _all_of(self, ask: Ask[list[T]], timeout: float | None) -> list[T]:
        """Do what is asked, in halves where the answer does not fit into one message."""
        try:
            return self._do(ask, timeout)
        except AnswerTooLarge:
            if ask.halves is None:
                raise
        return [one for half in ask.halves() for one in self._all_of(half, timeout)]

    def _do(self, ask: Ask[T], timeout: float | None) -> T:
        self._require_open()
        method = getattr(self._stubs[ask.service], ask.method)
        seconds = verbs.seconds(timeout, ask.timeout)
        try:
            message = method(ask.request, timeout=seconds, metadata=self._way.headers)
        except grpc.RpcError as error:
            raise error_of(error, self.address) from error
        return ask.read(message)
