"""The client for coroutines: the verbs of `Client`, awaited.

    async with AsyncClient("localhost:50051") as client:
        hits = await client.search("why is the sky blue", k=10)

One client keeps one connection and may be shared between the tasks of one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
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
from colreduce.rpc.v1 import admin_pb2_grpc, search_pb2_grpc, write_pb2_grpc
from colreduce.rpc.verbs import SEARCH_SECONDS, Ask

T = TypeVar("T")


class AsyncClient:
    """Talks to a colreduce server from coroutines. Made as `Client` is, within the event loop."""

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
        self._channel = self._way.aio_channel()
        self._any_channel = self._way.aio_channel(ready=False)
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

    async def search(
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
        return (await self._do(ask, self.timeout if timeout is None else timeout)).whole()

    async def answer(
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
        return await self._do(ask, self.timeout if timeout is None else timeout)

    async def search_many(
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
        return [hits for ask in asks for hits in await self._all_of(ask, timeout)]

    async def get(
        self,
        ids: Sequence[str],
        *,
        pictures: bool = False,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> list[Document]:
        """Return stored documents by their ids; `NotFound` names one that is not there."""
        asks = verbs.get(self._name(collection), ids, pictures)
        return [one for ask in asks for one in await self._all_of(ask, timeout)]

    async def explain(
        self,
        query: str | Any,
        id: str,
        *,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> Explanation:
        """Say why a document has its score for a text or for query vectors, as `Index.explain`."""
        return await self._do(verbs.explain(self._name(collection), query, id), timeout)

    async def add(
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
        report = await self.upsert(given, collection=collection)
        if report.refused:
            raise report.refused[0].error
        return report.generation

    async def upsert(
        self,
        documents: Iterable[Document],
        *,
        collection: str | None = None,
        progress: Progress | None = None,
    ) -> Upserted:
        """Put documents as `Client.upsert` does."""
        self._require_open()
        upload = Upload(documents, self._name(collection), progress)
        while True:
            call = self._stubs["Write"].Upsert(metadata=self._way.headers)
            try:
                await self._converse(upload, call)
                return upload.report
            except grpc.RpcError as error:
                pause = upload.broken(error_of(error, self.address))
            except Unavailable as error:
                pause = upload.broken(error)
            finally:
                call.cancel()
            await asyncio.sleep(pause)

    async def _converse(self, upload: Upload, call: Any) -> None:
        while True:
            while (message := upload.next_message()) is not None:
                await self._write(call, message)
            if not upload.waiting:
                await call.done_writing()
                await call.read()  # the server's goodbye
                return
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise Unavailable(f"{self.address} ended the stream before all was answered")
            await asyncio.sleep(upload.answered(answer))

    async def _write(self, call: Any, message: Any) -> None:
        """Send a message; where the stream has ended, raise why, as far as the server said it."""
        try:
            await call.write(message)
        except asyncio.InvalidStateError:
            await call.read()  # raises it
            raise Unavailable(f"{self.address} ended the stream before all was answered") from None
        except grpc.aio.AioRpcError as error:
            if error.trailing_metadata():
                raise
            raise Unavailable(f"the stream to {self.address} was cut off") from error

    async def delete(
        self, ids: Sequence[str], *, collection: str | None = None, timeout: float | None = None
    ) -> int:
        """Delete documents; return how many of the ids were there."""
        asks = verbs.delete(self._name(collection), ids)
        return sum([await self._do(ask, timeout) for ask in asks])

    async def collections(self, *, timeout: float | None = None) -> list[Collection]:
        """Return the collections that the server has, those that cannot be searched included."""
        return await self._do(verbs.collections(), timeout)

    async def describe(
        self, collection: str | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return what a collection holds and costs: the keys of `Index.describe`, and some more.

        ``ledger`` is the loss ledger, stage by stage; ``text_queries`` says whether it takes text,
        and ``writable`` whether it can be changed.
        """
        return await self._do(verbs.describe(self._name(collection)), timeout)

    async def create(
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
        return await self._do(ask, timeout)

    async def compact(
        self,
        *,
        purge: bool = False,
        collection: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Move all documents into one segment; return the generation.

        purge  also remove every byte of documents that were deleted or replaced
        """
        return await self._do(verbs.compact(self._name(collection), purge=purge), timeout)

    async def snapshot(
        self, *, collection: str | None = None, timeout: float | None = None
    ) -> Copy:
        """Let the server write a complete copy into its own folder; return the file's name."""
        return await self._do(verbs.snapshot(self._name(collection)), timeout)

    async def drop(self, name: str, *, timeout: float | None = None) -> int:
        """Remove a collection with all that is in it; return how many documents that were."""
        return await self._do(verbs.drop(name), timeout)

    async def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """Return ``SERVING`` or ``NOT_SERVING`` for the server or for one of its services.

        Services are ``colreduce.rpc.v1.Search``, ``.Write`` and ``.Admin``; of one collection,
        ``colreduce.rpc.v1.Search/NAME`` and ``.Write/NAME``.
        """
        return await self._do(verbs.health(service), self.timeout if timeout is None else timeout)

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        await self._channel.close()
        await self._any_channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ServiceError("this client was closed: make another one")

    def _name(self, collection: str | None) -> str:
        return self.collection if collection is None else collection

    async def _all_of(self, ask: Ask[list[T]], timeout: float | None) -> list[T]:
        """Do what is asked, in halves where the answer does not fit into one message."""
        try:
            return await self._do(ask, timeout)
        except AnswerTooLarge:
            if ask.halves is None:
                raise
        return [one for half in ask.halves() for one in await self._all_of(half, timeout)]

    async def _do(self, ask: Ask[T], timeout: float | None) -> T:
        self._require_open()
        method = getattr(self._stubs[ask.service], ask.method)
        seconds = verbs.seconds(timeout, ask.timeout)
        try:
            message = await method(ask.request, timeout=seconds, metadata=self._way.headers)
        except grpc.RpcError as error:
            raise error_of(error, self.address) from error
        return ask.read(message)
