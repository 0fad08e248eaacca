"""Takes documents in and deletes them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeAlias

from colreduce.errors import BadInput, ColreduceError, DeadlineExceeded, ShapeMismatch
from colreduce.index import Written
from colreduce.ragged import Ragged
from colreduce.rpc import codec, limits
from colreduce.rpc.status import item_status
from colreduce.rpc.v1 import write_pb2
from colreduce_service.call import Call
from colreduce_service.collection import Collection
from colreduce_service.methods import MOST_SECONDS
from colreduce_service.open_indexes import OpenIndexes

# A document that passed: its place in the request, its id, text, vectors and metadata.
Checked: TypeAlias = tuple[int, str, str | None, Any, dict[str, Any]]


class WriteServicer:
    """Takes documents in and deletes them."""

    def __init__(self, indexes: OpenIndexes) -> None:
        self._indexes = indexes

    def Upsert(self, request: write_pb2.UpsertRequest, call: Call) -> write_pb2.UpsertResponse:
        """Write the documents of one message; say of each what became of it."""
        if call.collection and request.collection not in ("", call.collection):
            raise BadInput(
                f"this stream writes to {call.collection!r}; open another for "
                f"{request.collection!r}",
                field="collection",
            )
        collection = self._indexes.asked(request.collection or call.collection, call)
        limits.check_count(
            len(request.documents), limits.DOCUMENTS, "documents", "the number of documents"
        )
        return _Upsert(self._indexes, collection, request, call).answer()

    def Delete(self, request: write_pb2.DeleteRequest, call: Call) -> write_pb2.DeleteResponse:
        """Delete documents by their ids."""
        collection = self._indexes.asked(request.collection, call)
        limits.check_ids(request.ids)
        call.cost += len(request.ids)
        with collection.writing() as queue, call.stage("commit"):
            written = _awaited(queue.submit_delete(sorted(set(request.ids))), call)
        return write_pb2.DeleteResponse(deleted=written.existing, generation=written.generation)


class _Upsert:
    """The documents of one message on their way into a collection."""

    def __init__(
        self,
        indexes: OpenIndexes,
        collection: Collection,
        request: write_pb2.UpsertRequest,
        call: Call,
    ) -> None:
        self._say = indexes.say
        self._collection = collection
        self._documents = request.documents
        self._call = call
        self._generation = 0
        self._items = [write_pb2.ItemStatus(id=one.id[:300]) for one in request.documents]

    def answer(self) -> write_pb2.UpsertResponse:
        """Write what can be written, and tell of every document."""
        with self._call.stage("check"):
            checked = self._checked()
        for group in (
            [one for one in checked if one[3] is None],  # texts, which are encoded here
            [one for one in checked if one[3] is not None],
        ):
            if group:
                self._write(group)
        return write_pb2.UpsertResponse(items=self._items, generation=self._generation)

    def _checked(self) -> list[Checked]:
        good: list[Checked] = []
        seen: set[str] = set()
        dim = self._collection.index.dim
        for place, document in enumerate(self._documents):
            field = f"documents[{place}]"
            try:
                one = _check(document, field, dim, self._collection)
                if document.id in seen:
                    raise BadInput(f"the id {document.id!r} is given twice", field=f"{field}.id")
                seen.add(document.id)
                good.append((place, *one))
            except ColreduceError as error:
                self._refuse([place], error)
        return good

    def _write(self, group: Sequence[Checked]) -> None:
        places, ids, texts, vectors, metadata = (list(part) for part in zip(*group, strict=True))
        try:
            with self._collection.writing() as queue:
                with self._call.stage("encode"):
                    if vectors[0] is not None:
                        given = Ragged.pack(vectors)
                    else:
                        given = self._collection.encode_documents(texts, self._call)
                    self._call.cost += len(given.tokens)
                    future = queue.submit_upsert(ids, texts, embeddings=given, metadata=metadata)
                with self._call.stage("commit"):
                    written = _awaited(future, self._call)
            self._collection.written()
            self._generation = max(self._generation, written.generation)
        except BadInput as error:
            if len(group) == 1:
                self._refuse(places, error)
                return
            for one in group:  # one of them may be at fault for all
                self._write([one])
        except ColreduceError as error:
            self._refuse(places, error)

    def _refuse(self, places: Sequence[int], error: ColreduceError) -> None:
        for place in places:
            self._items[place].MergeFrom(item_status(error, self._say(error)))


def _check(
    document: write_pb2.NewDocument, field: str, dim: int, collection: Collection
) -> tuple[str, str | None, Any, dict[str, Any]]:
    """Return a document's id, text, vectors and metadata, or say which of them is wrong."""
    limits.check_id(document.id, f"{field}.id")
    told = codec.from_json(
        document.metadata_json, f"{field}.metadata_json", most=limits.METADATA_BYTES
    )
    text = document.text if document.HasField("text") else None
    if text is not None:
        limits.check_size(text, limits.DOCUMENT_BYTES, f"{field}.text", "a document's text")
    if not document.HasField("vectors"):
        if text is None or not text.strip():
            raise BadInput("there is nothing to index: set text or vectors", field=field)
        collection.require_text(f"{field}.text")
        return document.id, text, None, told
    vectors = codec.from_tokens(document.vectors, f"{field}.vectors", most=limits.DOCUMENT_TOKENS)
    if vectors.shape[1] != dim:
        raise ShapeMismatch(
            f"this collection takes {dim}-wide vectors; the document has {vectors.shape[1]}. "
            "Encode documents with the model it was built with.",
            field=f"{field}.vectors.dim",
        )
    return document.id, text, vectors, told


def _awaited(future: Future[Written], call: Call) -> Written:
    """Wait until a change is on the disk. It may still get there when the time is up."""
    try:
        return future.result(min(call.deadline.left(), MOST_SECONDS))
    except NotYet:
        future.cancel()
        raise DeadlineExceeded(
            "the change was not on the disk in time; it may still get there. Sending it again "
            "does no harm"
        ) from None
