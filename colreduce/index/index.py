"""Index: create, open, add, search. The only place where the stages and the store meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

from colreduce.device import CPU
from colreduce.device import chosen as on_device
from colreduce.embed import Encoder, load_encoder
from colreduce.errors import BadInput, NotFound
from colreduce.filters import Filter
from colreduce.filters import parse as parse_filter
from colreduce.index import describe, limits, remote
from colreduce.index.auto import AUTO, usual_candidates
from colreduce.index.batch import Batch
from colreduce.index.build import Watch, picture_of
from colreduce.index.explain import explain
from colreduce.index.identity import check_identity, founding
from colreduce.index.ledger import kept_ledger
from colreduce.index.loading import new_encoder, stored_encoder, stored_pipeline
from colreduce.index.maintain import merge
from colreduce.index.search import Asked, View, embed_queries
from colreduce.index.upkeep import Upkeep
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.results import Document, Explanation, Hit
from colreduce.store import Report, Store, verify


class Index:
    """A retrieval index over multi-vector embeddings.

    Made by `create` or `open`. Reading takes no lock; the first change takes the writer's lock
    and keeps it until `close`.
    """

    def __init__(self, store: Store, encoder: Encoder | None, device: str = CPU) -> None:
        self._store = store
        self._encoder = encoder
        self._device = device
        self._guard = threading.Lock()
        self._founding = threading.RLock()  # held while the first documents arrive
        self._showing = threading.Lock()  # held while a newer view takes the place of an older
        self.upkeep = Upkeep(store, self.merge)
        self.recipe = Recipe.from_dict(store.config["recipe"])
        self.dim = int(store.config["dim"])
        self._pipeline = stored_pipeline(self.recipe, self._store.snapshot()).on(device)
        self._view = self._open_view(None)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        recipe: Recipe | str | Path = "balanced",
        encoder: Any = None,
        dim: int | None = None,
        seed: int = 0,
        store_texts: bool = True,
        store_assignment: bool | None = None,
        keep_sample: bool | None = None,
        store_pictures: bool | None = None,
        device: str = "auto",
    ) -> Index:
        """Make an empty index in a new folder.

        encoder           a `MultiVectorEncoder`, a model folder or a hub id
        dim               the vectors' width, for an index that is given vectors only
        store_texts       keep the texts, compressed, so that they can be shown
        store_assignment  keep where every original token went, so that hits can be explained;
                          when left out, only if texts cannot be encoded again to find that out
        keep_sample       keep some documents' vectors, so that quality can be measured again;
                          when left out, under the same condition
        store_pictures    keep a small picture of each page; when left out, if pages are encoded
        """
        chosen, where = Recipe.parse(recipe), on_device(device)
        loaded = new_encoder(encoder, dim, device)
        width = loaded.dim if loaded is not None else dim
        config = founding(
            chosen,
            loaded,
            dim=limits.check_number(width, "dim", limits.MAX_DIM),
            seed=seed,
            store_texts=store_texts,
            store_assignment=store_assignment,
            keep_sample=keep_sample,
            store_pictures=store_pictures,
        )
        return cls(Store.create(Path(path), config), loaded, where)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: Any = None,
        device: str = "auto",
        verify: Literal["full", "sizes"] = "full",
    ) -> Index:
        """Open an index for searching; the first change makes this process its writer.

        The encoder is loaded when the first text is searched or added, from where the index was
        built with, unless one is given here. It must be the model the index was built with.
        """
        where = on_device(device)
        store = Store.open(Path(path), verify=verify)
        try:
            loaded = None if encoder is None else load_encoder(encoder, device=device)
            if loaded is not None:
                check_identity(store.config.get("encoder"), loaded)
            return cls(store, loaded, where)
        except BaseException:
            store.close()
            raise

    @property
    def path(self) -> Path:
        """Return the index' folder."""
        return self._store.path

    @property
    def generation(self) -> int:
        """Return the number of the newest commit that searches see."""
        return self._view.snapshot.generation

    def __len__(self) -> int:
        """Return the number of documents."""
        return self._view.snapshot.count

    def __contains__(self, one: str) -> bool:
        """Say whether there is a document of that id."""
        return self._view.snapshot.find(one) is not None

    @property
    def encoder(self) -> Encoder:
        """Return the encoder, loading it the first time."""
        with self._guard:
            if self._encoder is None:
                self._encoder = stored_encoder(self._store.config)
            return self._encoder

    def use_encoder(self, encoder: Encoder) -> None:
        """Encode texts with a loaded model, such as one that several indexes share."""
        check_identity(self._store.config.get("encoder"), encoder)
        self._encoder = encoder

    def acquire(self) -> None:
        """Become the writer now and not only with the first change; `Locked` if another is."""
        self._store.acquire()
        self.refresh()
        self.upkeep.look()

    @property
    def trouble(self) -> str:
        """Return why this process, the writer, may write no more; empty while all is well."""
        return self._store.trouble

    def fit(self, sample: Ragged, texts: Sequence[str | None] | None = None) -> None:
        """Let the recipe's methods learn from a sample of documents, before the first `add`.

        Without this call they learn from the first documents that are added.
        """
        if self._view.snapshot.models:
            raise BadInput("this index is fitted already; build a new one to fit another sample")
        limits.check_documents(sample, self.dim, [f"sample {i}" for i in range(len(sample))])
        known = self._encoder.vocabulary if self._encoder is not None else None
        seed = int(self._store.config["seed"])
        self._pipeline = Pipeline.fit(
            self.recipe, sample, texts, seed=seed, vocabulary=known, device=self._device
        )

    def forget(self) -> None:
        """Undo a `fit` whose documents never arrived."""
        self._pipeline = stored_pipeline(self.recipe, self._store.snapshot()).on(self._device)

    def add(
        self,
        ids: Sequence[str],
        documents: Sequence[str] | None = None,
        *,
        embeddings: Sequence[Any] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> int:
        """Add documents, or replace those whose id is there; return the new generation.

        documents   texts, encoded with the index' encoder
        embeddings  or their vectors, exactly as ``encode_document`` returns them; with both, the
                    texts are stored and shown, and not encoded
        When this returns, the documents are on disk and every later search sees them.
        """
        with self.batch() as batch:
            batch.add(ids, documents, embeddings=embeddings, metadata=metadata)
        return self.generation

    @contextmanager
    def batch(self, watch: Watch | None = None) -> Iterator[Batch]:
        """Collect many `add` calls into one commit; nothing is visible before the end.

        watch  told of all documents as every stage leaves them
        """
        self._store.acquire()
        self.refresh()
        # The first documents teach the methods, so nobody else may be first meanwhile.
        with nullcontext() if self._view.snapshot.segments else self._founding:
            batch = Batch(self, self._store, watch)
            try:
                yield batch
                batch.commit()
            except BaseException:
                batch.abort()
                raise
        self.upkeep.look()

    def search(
        self,
        query: str | Any,
        k: int = 10,
        *,
        candidates: int | None = None,
        exact: bool = False,
        filter: Filter | Mapping[str, Any] | str | None = None,
    ) -> list[Hit]:
        """Return the ``k`` best documents for a text or for query vectors [q, d].

        candidates  documents asked of the first stage; the recipe's number when left out
        exact       score every document, whatever the recipe says
        filter      what the metadata must be, such as ``{"year": {"gte": 2019}}`` or
                    ``"year >= 2019 and lang in (en, de)"``
        """
        many = self.search_many([query], k, candidates=candidates, exact=exact, filter=filter)
        return many[0]

    def search_many(
        self,
        queries: Sequence[str | Any],
        k: int = 10,
        *,
        candidates: int | None = None,
        exact: bool = False,
        filter: Filter | Mapping[str, Any] | str | None = None,
    ) -> list[list[Hit]]:
        """Search for several queries; texts among them are encoded together."""
        asked = self.ask(queries, k, candidates=candidates, exact=exact, filter=filter)
        view = self._view
        return [view.search(one) for one in asked]

    def ask(
        self,
        queries: Sequence[str | Any],
        k: int = 10,
        *,
        candidates: int | None = None,
        exact: bool = False,
        filter: Filter | Mapping[str, Any] | str | None = None,
        encode: Callable[[Sequence[str]], Sequence[Any]] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> list[Asked]:
        """Check and encode queries without searching: `View.search` takes what comes back.

        encode  encodes the texts among them in place of `encoder`, with the same model
        check   is called between the steps of the search, and raises to stop it
        """
        limits.check_number(k, "k", limits.MAX_K)
        wanted = limits.check_number(
            self._usual if candidates is None else candidates, "candidates", limits.MAX_CANDIDATES
        )
        passing = None if filter is None else parse_filter(filter)
        embedded = embed_queries(
            queries,
            encode or (lambda texts: self.encoder.queries(texts)),
            lambda vectors: limits.check_query(vectors, self.dim),
        )
        return [
            Asked(self._pipeline.asked(vectors, text), k, max(wanted, k), exact, passing, check)
            for vectors, text in embedded
        ]

    @property
    def candidates(self) -> int:
        """Return how many candidates a search takes that does not say."""
        return self._usual

    @property
    def view(self) -> View:
        """Return the frozen view that searches use now."""
        return self._view

    @property
    def pipeline(self) -> Pipeline:
        """Return the recipe with what its methods learned."""
        return self._pipeline

    def get(
        self, ids: Iterable[str], *, vectors: bool = False, pictures: bool = False
    ) -> list[Document]:
        """Return stored documents; `NotFound` names an id that is not there."""
        found, view = [], self._view  # another thread may put a newer one in its place
        for one in ids:
            place = view.snapshot.find(one)
            if place is None:
                raise NotFound(f"there is no document {one!r} in {self.path}")
            segment = view.snapshot.segments[place[0]]
            stored = view.segments[segment.name].vectors(place[1]) if vectors else None
            text = segment.text(place[1])
            picture = picture_of(segment, place[1]) if pictures else None
            found.append(Document(one, segment.metadata(place[1]), text, stored, picture))
        return found

    def explain(self, query: str | Any, id: str) -> Explanation:
        """Say why a document has its score for a text or for query vectors [q, d].

        Every vector of the query is shown with the stored vector that it met, with the tokens of
        the document that were merged into that one, and with its share of the score.
        """
        return explain(self, query, id)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents; return how many of the ids were there.

        When this returns, the deletion is on disk and no later search finds them. Their bytes
        stay until `compact`, and are gone for good after ``compact(purge=True)``.
        """
        limits.check_ids(ids)
        with self.batch() as batch:
            known = [one for one in ids if one in self]
            batch.delete(known)
        return len(known)

    def compact(self, *, purge: bool = False) -> int:
        """Move all live documents into one segment; return the generation.

        purge  also remove every byte of documents that were deleted or replaced
        """
        self._store.acquire()
        self.merge(purge=purge)
        return self.generation

    def merge(self, **how: Any) -> None:
        """Move live documents into one segment; ``how`` is what `Store.compact` takes."""
        self.refresh()
        self._store.compact(rewrite=partial(merge, self._view), **how)
        self.refresh()

    def snapshot(self, target: str | Path) -> int:
        """Write a copy of the newest generation into a new file, or URL; return its number."""
        return remote.save(self._store, target)

    @classmethod
    def restore(cls, source: str | Path, path: str | Path) -> Index:
        """Make an index in a new folder from a file that `snapshot` wrote, every byte checked."""
        return cls(remote.restored(source, Path(path)), None)

    @staticmethod
    def verify(path: str | Path) -> Report:
        """Read every byte of an index again and say which files are not what was written."""
        return verify(Path(path))

    def describe(self) -> dict[str, Any]:
        """Return what the index holds, how it was built and what it costs in bytes."""
        return describe.describe(self._store, self._view, self.recipe)

    def note(self, files: Mapping[str, Any] | None = None, /, **notes: Any) -> None:
        """Store facts about the index beside it; ``files`` holds arrays, by file and by name."""
        self._store.acquire()
        self._store.commit(models=files, notes=notes)
        self.refresh()

    def refresh(self) -> int:
        """Look for a newer generation, written by this process or another; return its number."""
        self._store.refresh()
        with self._showing:
            if self._store.snapshot() is not self._view.snapshot:
                self._view = self._open_view(self._view)
            return self.generation

    def close(self) -> None:
        """Give the writer's lock back and let go of the files."""
        self.upkeep.close()
        self._store.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open_view(self, before: View | None) -> View:
        snapshot = self._store.snapshot()
        if snapshot.segments and not self._pipeline.states:
            self._pipeline = stored_pipeline(self.recipe, snapshot).on(self._device)
        asks = self.recipe.reranker.candidates == AUTO
        self._usual = usual_candidates(self.recipe, kept_ledger(snapshot) if asks else None)
        return View(snapshot, self._pipeline, before)
