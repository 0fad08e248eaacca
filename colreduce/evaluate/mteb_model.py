"""A recipe as a model that `mteb` evaluates: it builds an index and answers from that.

    import mteb
    from colreduce.evaluate.mteb_model import MtebModel

    model = MtebModel(encoder, "balanced")
    mteb.evaluate(model, mteb.get_tasks(["SciFact"]))

So the figures are those of the index, first stage, codec and all, and not of the encoder alone.
Documents and queries are encoded once and kept in the embedding cache, for all recipes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from colreduce.embed import load_encoder
from colreduce.errors import BadInput, MissingDependency
from colreduce.evaluate.build import Corpus, build_index
from colreduce.evaluate.embeddings import EmbeddingStore, cache_folder
from colreduce.evaluate.records import Record
from colreduce.index import Index
from colreduce.recipe import Recipe

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta

Found = dict[str, dict[str, float]]


class MtebModel:
    """An encoder and a recipe behind mteb's interface for models that search by themselves."""

    def __init__(
        self,
        encoder: Any,
        recipe: Recipe | str | Path = "balanced",
        *,
        seed: int = 0,
        device: str = "auto",
        cache: str | Path | None = None,
    ) -> None:
        """Take what `Index.create` takes.

        cache  where token vectors are kept between runs; the usual place when left out
        """
        self._encoder = load_encoder(encoder, device=device)
        self._recipe = Recipe.parse(recipe)
        self._seed = seed
        self._cache = Path(cache) if cache is not None else cache_folder() / "embeddings"
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._index: Index | None = None

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """Say to mteb what this is: the encoder's name with the recipe."""
        try:
            from mteb.models.model_meta import ModelMeta
        except ImportError as error:
            raise MissingDependency(
                "this needs mteb; install it with: pip install 'colreduce[mteb]'"
            ) from error
        identity = self._encoder.identity
        return ModelMeta.create_empty(
            {
                "name": f"colreduce/{identity['name']}",
                "revision": str(identity.get("sha256", "unknown"))[:12],
                "embed_dim": self._encoder.dim,
                "model_type": ["late-interaction"],
                "experiment_kwargs": {"recipe": str(self._recipe), "seed": self._seed},
            }
        )

    def index(self, corpus: Any, **_: Any) -> None:
        """Build the index of a task's corpus, in the place of the one before."""
        self.close()
        ids = [str(one) for one in corpus["id"]]
        with EmbeddingStore(self._cache) as store:
            embeddings = store.documents(self._encoder, lambda: _documents(corpus))
            self._place = tempfile.TemporaryDirectory(prefix="colreduce-mteb-")

            def records() -> Iterator[Record]:
                pairs = zip(ids, _documents(corpus), strict=True)
                return (Record(one, text, {}) for one, text in pairs)

            self._index, _ = build_index(
                Path(self._place.name) / "index",
                Corpus(ids, embeddings, records),
                self._recipe,
                encoder=self._encoder,
                seed=self._seed,
            )

    def search(
        self,
        queries: Any,
        *,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> Found:
        """Return the scores of the best documents of each query.

        top_ranked  the only documents that may be ranked, by query
        """
        if self._index is None:
            raise BadInput("there is no index yet: mteb calls index() first")
        asked = [str(one) for one in queries["id"]]
        with EmbeddingStore(self._cache) as store:
            vectors = store.queries(self._encoder, list(_queries(queries))).take(range(len(asked)))
        found: Found = {}
        for one, query in zip(asked, vectors.unpack(), strict=True):
            if top_ranked is not None:
                found[one] = self._ranked(self._index, query, top_ranked[one], top_k)
            else:
                found[one] = {hit.id: hit.score for hit in self._index.search(query, top_k)}
        return found

    def close(self) -> None:
        """Remove the index."""
        if self._index is not None:
            self._index.close()
        if self._place is not None:
            self._place.cleanup()
        self._index = self._place = None

    @staticmethod
    def _ranked(index: Index, query: Any, ids: Sequence[str], k: int) -> dict[str, float]:
        """Score some documents by their stored vectors."""
        view = index.view
        rows = np.array([view.row_of(one) for one in ids], dtype=np.int64)
        asked = index.pipeline.asked(query, None)
        scores = view.scorer(asked.vectors, rows)(np.arange(len(rows)))
        best = np.argsort(-scores, kind="stable")[:k]
        return {ids[place]: float(scores[place]) for place in best}


def _documents(corpus: Any) -> Iterator[str]:
    """Yield each document's title and text, as mteb's own models read them."""
    for row in corpus:
        title = row.get("title") or ""
        yield f"{title} {_text(row)}".strip()


def _queries(queries: Any) -> Iterator[str]:
    """Yield each query with its instruction, if it has one."""
    for row in queries:
        yield f"{_text(row)} {row.get('instruction') or ''}".strip()


def _text(row: Mapping[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str):
        raise BadInput(
            f"{row.get('id')!r} has no text: only tasks that ask texts for texts can be evaluated"
        )
    return text
