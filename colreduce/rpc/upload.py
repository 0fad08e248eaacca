"""An upsert on its way: documents into messages, answers into a report, and what is sent again.

Nothing here talks to the network: the two clients do, each in its own way. What was not answered
when a connection broke is sent again, which does no harm.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from colreduce.errors import (
    BadInput,
    Cancelled,
    ColreduceError,
    DiskFull,
    Overloaded,
    Unavailable,
)
from colreduce.results import Document
from colreduce.rpc import codec, limits
from colreduce.rpc.answers import Refusal, Upserted
from colreduce.rpc.status import item_error
from colreduce.rpc.v1 import write_pb2

Progress: TypeAlias = Callable[[Upserted], None]

# Messages that may be under way at once, and what goes into one of them.
WINDOW = 4
MESSAGE_DOCUMENTS = 64
MESSAGE_BYTES = 2 << 20

# What one document may take at most; the rest of a message is for the collection's name.
LARGEST = limits.MESSAGE_BYTES - 1024

# Tries without any progress before an upsert is given up, and the pauses between them.
TRIES = 6
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

# What trying again may help against. Who hears of being cancelled was cut off by the server.
AGAIN = (Overloaded, Unavailable, DiskFull, Cancelled)


class Upload:
    """The documents of one upsert."""

    def __init__(
        self, documents: Iterable[Document], collection: str, progress: Progress | None = None
    ) -> None:
        if isinstance(documents, Document) or not isinstance(documents, Iterable):
            raise BadInput(
                f"wanted documents one after the other, got {type(documents).__name__}",
                field="documents",
            )
        self._refused: list[Refusal] = []
        self._source = _messages(documents, collection, self._refused)
        self._collection = collection
        self._progress = progress
        self._unanswered: deque[write_pb2.UpsertRequest] = deque()
        self._again: deque[write_pb2.UpsertRequest] = deque()
        self._written = self._generation = 0
        self._failures = 0  # in a row, without a document written between them

    @property
    def report(self) -> Upserted:
        """Return what became of the documents so far."""
        return Upserted(self._written, tuple(self._refused), self._generation)

    @property
    def waiting(self) -> int:
        """Return how many messages are under way."""
        return len(self._unanswered)

    def next_message(self) -> write_pb2.UpsertRequest | None:
        """Return what to send next; None when enough is under way, or nothing is left."""
        if self.waiting >= WINDOW:
            return None
        message = self._again.popleft() if self._again else next(self._source, None)
        if message is not None:
            self._unanswered.append(message)
        return message

    def answered(self, answer: write_pb2.UpsertResponse) -> float:
        """Take in the answer to the oldest message; return for how long to pause now."""
        message = self._unanswered.popleft()
        later = {one.id for sent in self._unanswered for one in sent.documents}
        retry: list[write_pb2.NewDocument] = []
        pause = 0.0
        for document, item in zip(message.documents, answer.items, strict=True):
            error = item_error(item)
            again = isinstance(error, AGAIN)
            if error is None or (again and document.id in later):  # or it is replaced already
                self._written += 1
            elif again and self._failures < TRIES:
                retry.append(document)
            else:
                self._refused.append(Refusal(document.id, error))
        self._generation = max(self._generation, answer.generation)
        if retry:
            pause = self._pause()
            self._again.append(
                write_pb2.UpsertRequest(collection=self._collection, documents=retry)
            )
        elif answer.generation:
            self._failures = 0
        if self._progress is not None:
            self._progress(self.report)
        return pause

    def broken(self, error: ColreduceError) -> float:
        """Take the connection's end; return for how long to pause, or raise when that is no use."""
        if not isinstance(error, AGAIN) or self._failures >= TRIES:
            raise error
        self._again.extendleft(reversed(self._unanswered))
        self._unanswered.clear()
        return self._pause()

    def _pause(self) -> float:
        self._failures += 1
        longest = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        return random.uniform(longest / 2, longest)  # so that many clients do not come back at once


def together(
    ids: Sequence[str],
    texts: Sequence[str] | None,
    vectors: Sequence[Any] | None,
    metadata: Sequence[Mapping[str, Any]] | None,
) -> Iterator[Document]:
    """Return documents whose parts lie side by side, as `Index.add` takes them."""
    if isinstance(ids, str):
        raise BadInput(f"wanted a list of ids, got the string {ids!r}", field="ids")
    parts = {"documents": texts, "embeddings": vectors, "metadata": metadata}
    for name, part in parts.items():
        if part is not None and len(part) != len(ids):
            raise BadInput(f"{len(part)} {name} for {len(ids)} ids", field=name)
    if not ids:
        raise BadInput("there is nothing to add: ids is empty", field="ids")
    return (
        Document(
            one,
            {} if metadata is None else metadata[place],
            None if texts is None else texts[place],
            None if vectors is None else vectors[place],
        )
        for place, one in enumerate(ids)
    )


def _messages(
    documents: Iterable[Document], collection: str, refused: list[Refusal]
) -> Iterator[write_pb2.UpsertRequest]:
    """Yield documents in messages; what no server would take is refused here, and not sent."""
    message = write_pb2.UpsertRequest(collection=collection)
    used = 0
    for place, document in enumerate(documents):
        if not isinstance(document, Document):
            raise BadInput(
                f"wanted a Document, got {type(document).__name__}", field=f"documents[{place}]"
            )
        try:
            one = _message(document, f"documents[{place}]")
        except BadInput as error:
            refused.append(Refusal(str(document.id), error))
            continue
        size = one.ByteSize()
        full = len(message.documents) == MESSAGE_DOCUMENTS or used + size > MESSAGE_BYTES
        if message.documents and full:
            yield message
            message, used = write_pb2.UpsertRequest(collection=collection), 0
        message.documents.append(one)
        used += size
    if message.documents:
        yield message


def _message(document: Document, field: str) -> write_pb2.NewDocument:
    if document.text is None and document.vectors is None:
        raise BadInput("there is nothing to index: give text or vectors", field=field)
    vectors = document.vectors
    text = document.text
    message = write_pb2.NewDocument(
        id=limits.check_id(document.id, f"{field}.id"),
        text=None if text is None else limits.check_whole(text, f"{field}.text"),
        vectors=None if vectors is None else codec.to_tokens(vectors, f"{field}.vectors"),
        metadata_json=codec.to_json(dict(document.metadata), f"{field}.metadata"),
    )
    if (size := message.ByteSize()) > LARGEST:
        raise BadInput(
            f"the document takes {size:,} bytes, more than the {LARGEST:,} that one message may "
            "hold. Vectors in half precision take half as many; or add it on the server's machine.",
            field=field,
        )
    return message
