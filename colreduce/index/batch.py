"""Documents on their way into an index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from colreduce.errors import BadInput
from colreduce.index import limits
from colreduce.index.build import SegmentBuilder, Watch
from colreduce.index.loading import learned, places
from colreduce.index.sample import Keeper
from colreduce.ragged import Ragged
from colreduce.store import Store

if TYPE_CHECKING:
    from colreduce.index.index import Index

# Documents that the methods of a recipe learn from, when nobody says otherwise.
SAMPLE = 512

# A segment of a batch build; a new one is begun when so many documents are in it.
SEGMENT_DOCUMENTS = 1 << 18


@dataclass(frozen=True, slots=True)
class Encoded:
    """Documents that were checked and have vectors: all that is needed to store them."""

    ids: Sequence[str]
    vectors: Ragged
    texts: Sequence[str | None]
    metadata: Sequence[Mapping[str, Any]] | None
    pictures: Sequence[bytes] | None = None

    def take(self, rows: Sequence[int]) -> Encoded:
        """Return some of the documents."""
        if len(rows) == len(self.ids):
            return self
        told = None if self.metadata is None else [self.metadata[row] for row in rows]
        ids, texts = [self.ids[row] for row in rows], [self.texts[row] for row in rows]
        shown = None if self.pictures is None else [self.pictures[row] for row in rows]
        vectors = self.vectors.take(torch.tensor(rows, dtype=torch.long))
        return Encoded(ids, vectors, texts, told, shown)


def joined(parts: Sequence[Encoded]) -> Iterator[Encoded]:
    """Lay parts end to end, as far as the same is known of all their tokens."""
    for _, group in itertools.groupby(parts, key=lambda part: part.vectors.known):
        same = list(group)
        if len(same) == 1:
            yield same[0]
            continue
        told: list[Mapping[str, Any]] = []
        shown: list[bytes] = []
        for part in same:
            told += [{}] * len(part.ids) if part.metadata is None else part.metadata
            shown += [b""] * len(part.ids) if part.pictures is None else part.pictures
        ids = [one for part in same for one in part.ids]
        texts = [text for part in same for text in part.texts]
        vectors = Ragged.concat([part.vectors for part in same])
        yield Encoded(ids, vectors, texts, told, shown if any(shown) else None)


class Batch:
    """Documents on their way into an index, committed together."""

    def __init__(self, index: Index, store: Store, watch: Watch | None = None) -> None:
        self._index = index
        self._watch = watch
        self._store = store
        self._builders: list[SegmentBuilder] = []
        self._open_documents = 0
        self._fitted = False
        self._ids: set[str] = set()
        self._deleted: list[str] = []
        self.seconds = {"reduce": 0.0, "first_stage": 0.0}

    def add(
        self,
        ids: Sequence[str],
        documents: Sequence[str] | None = None,
        *,
        embeddings: Sequence[Any] | Ragged | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        pictures: Sequence[bytes] | None = None,
    ) -> None:
        """Take in documents as `Index.add` does.

        pictures  a small WebP, PNG or JPEG picture of each, to be shown
        """
        self._require_new(ids)
        for part in encoded(self._index, ids, documents, embeddings, metadata, pictures):
            self.put(part)
        self._ids.update(ids)

    def put(self, part: Encoded) -> None:
        """Take in documents that were checked and encoded before."""
        # A recipe may have learned nothing from the first documents; it does not try again later.
        if not self._index.pipeline.states and not self._index.view.snapshot.segments:
            self._index.fit(part.vectors.take(slice(0, SAMPLE)), part.texts[:SAMPLE])
            self._fitted = True
        if not self._builders:
            self._index.upkeep.wait_for_room()
        if not self._builders or self._open_documents >= SEGMENT_DOCUMENTS:
            self._builders.append(self._builder())
            self._open_documents = 0
        builder = self._builders[-1]
        builder.add(part.ids, part.vectors, part.texts, part.metadata, part.pictures)
        self._open_documents += len(part.ids)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents as `Index.delete` does."""
        self._require_new(ids)
        self._deleted += ids
        self._ids.update(ids)

    def commit(self) -> None:
        """Publish everything that was added and deleted, at once."""
        writers = [builder.finish() for builder in self._builders]
        for builder in self._builders:
            for stage, seconds in builder.seconds.items():
                self.seconds[stage] += seconds
        if self._deleted:
            if not writers:
                writers.append(self._store.begin())
            writers[-1].delete(self._deleted)
        if not writers:
            return
        models = None
        if not self._index.view.snapshot.models:
            models = learned(self._index.pipeline)
        self._store.commit(writers, models=models, notes=places(self._index.pipeline))
        self._builders = []
        self._index.refresh()

    def abort(self) -> None:
        """Throw away what was added."""
        for builder in self._builders:
            builder.abort()
        self._builders = []
        if self._fitted:
            # What was learned from documents that were thrown away must not stay behind.
            self._index.forget()

    def _builder(self) -> SegmentBuilder:
        config = self._store.config
        before = len(self._index) + sum(builder.writer.rows for builder in self._builders)
        return SegmentBuilder(
            self._store,
            self._index.pipeline,
            texts=config["store_texts"],
            assignment=config["store_assignment"],
            watch=self._watch,
            keeper=Keeper(before) if config.get("keep_sample") else None,
            pictures=bool(config.get("store_pictures")),
        )

    def _require_new(self, ids: Sequence[str]) -> None:
        limits.check_ids(ids)
        again = self._ids.intersection(ids)
        if again:
            raise BadInput(f"the id {min(again)!r} is given twice in one batch", field="ids")


def encoded(
    index: Index,
    ids: Sequence[str],
    documents: Sequence[str] | None,
    embeddings: Sequence[Any] | Ragged | None,
    metadata: Sequence[Mapping[str, Any]] | None,
    pictures: Sequence[bytes] | None = None,
) -> Iterator[Encoded]:
    """Check what `Index.add` is given, encode texts, and yield it part by part."""
    limits.check_ids(ids)
    limits.check_metadata(metadata, len(ids))
    _check_counts(ids, documents, embeddings)
    start = 0
    for vectors in _vectors(index, documents, embeddings):
        part = slice(start, start + len(vectors))
        limits.check_documents(vectors, index.dim, ids[part])
        texts = list(documents[part]) if documents is not None else [None] * len(vectors)
        told = metadata[part] if metadata is not None else None
        shown = pictures[part] if pictures is not None else None
        yield Encoded(ids[part], vectors, texts, told, shown)
        start = part.stop


def _vectors(
    index: Index, documents: Sequence[str] | None, embeddings: Sequence[Any] | Ragged | None
) -> Iterator[Ragged]:
    if isinstance(embeddings, Ragged):
        yield embeddings
    elif embeddings is not None:
        yield Ragged.pack(embeddings)
    elif documents is not None:
        yield from index.encoder.documents(documents)


def _check_counts(
    ids: Sequence[str],
    documents: Sequence[str] | None,
    embeddings: Sequence[Any] | Ragged | None,
) -> None:
    if documents is None and embeddings is None:
        raise BadInput("wanted documents= (texts) or embeddings= (vectors)", field="documents")
    for name, given in (("documents", documents), ("embeddings", embeddings)):
        if given is not None and len(given) != len(ids):
            raise BadInput(f"{len(given)} {name} for {len(ids)} ids", field=name)
    if not ids:
        raise BadInput("there is nothing to add: ids is empty", field="ids")
