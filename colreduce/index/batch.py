"""Documents on their way into an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from colreduce.errors import BadInput
from colreduce.index import limits
from colreduce.index.build import SegmentBuilder
from colreduce.ragged import Ragged
from colreduce.store import Store

if TYPE_CHECKING:
    from colreduce.index.index import Index

# Documents that the methods of a recipe learn from, when nobody says otherwise.
SAMPLE = 512

# A segment of a batch build; a new one is begun when so many documents are in it.
SEGMENT_DOCUMENTS = 1 << 18


class Batch:
    """Documents on their way into an index, committed together."""

    def __init__(self, index: Index, store: Store) -> None:
        self._index = index
        self._store = store
        self._builders: list[SegmentBuilder] = []
        self._open_documents = 0
        self._fitted = False
        self._ids: set[str] = set()
        self.seconds = {"reduce": 0.0, "first_stage": 0.0}

    def add(
        self,
        ids: Sequence[str],
        documents: Sequence[str] | None = None,
        *,
        embeddings: Sequence[Any] | Ragged | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Take in documents as `Index.add` does."""
        limits.check_ids(ids)
        limits.check_metadata(metadata, len(ids))
        again = self._ids.intersection(ids)
        if again:
            raise BadInput(f"the id {min(again)!r} is given twice in one batch", field="ids")
        _check_counts(ids, documents, embeddings)
        start = 0
        for batch in self._encoded(documents, embeddings):
            stop = start + len(batch)
            limits.check_documents(batch, self._index.dim, ids[start:stop])
            texts = documents[start:stop] if documents is not None else [None] * len(batch)
            part = metadata[start:stop] if metadata is not None else None
            self._take(ids[start:stop], batch, list(texts), part)
            start = stop
        self._ids.update(ids)

    def commit(self) -> None:
        """Publish everything that was added, at once."""
        writers = [builder.finish() for builder in self._builders]
        for builder in self._builders:
            for stage, seconds in builder.seconds.items():
                self.seconds[stage] += seconds
        if not writers:
            return
        models = None
        if not self._index.view.snapshot.models:
            models = {
                key: {name: tensor.cpu().numpy() for name, tensor in state.items()}
                for key, state in self._index.pipeline.states.items()
                if state
            }
        self._store.commit(writers, models=models)
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

    def _encoded(
        self, documents: Sequence[str] | None, embeddings: Sequence[Any] | Ragged | None
    ) -> Iterator[Ragged]:
        if isinstance(embeddings, Ragged):
            yield embeddings
        elif embeddings is not None:
            yield Ragged.pack(embeddings)
        elif documents is not None:
            yield from self._index.encoder.documents(documents)

    def _take(
        self,
        ids: Sequence[str],
        batch: Ragged,
        texts: list[str | None],
        metadata: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        # A recipe may have learned nothing from the first documents; it does not try again later.
        if not self._index.pipeline.states and not self._index.view.snapshot.segments:
            self._index.fit(batch.take(slice(0, SAMPLE)), texts[:SAMPLE])
            self._fitted = True
        if not self._builders or self._open_documents >= SEGMENT_DOCUMENTS:
            config = self._store.config
            self._builders.append(
                SegmentBuilder(
                    self._store,
                    self._index.pipeline,
                    texts=config["store_texts"],
                    assignment=config["store_assignment"],
                )
            )
            self._open_documents = 0
        self._builders[-1].add(ids, batch, texts, metadata)
        self._open_documents += len(ids)


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
