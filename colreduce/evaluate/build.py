"""Building a real index from embeddings that are known already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from colreduce.embed import Encoder
from colreduce.evaluate.embeddings import Embeddings, Progress, silent
from colreduce.evaluate.records import Record
from colreduce.evaluate.sample import SAMPLE, reservoir
from colreduce.index import Index
from colreduce.recipe import Recipe

BLOCK_TOKENS = 1 << 17


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents with their vectors.

    ids are in the corpus' order; ``records`` reads the texts again, as often as it is called, and
    is None where there are only vectors.
    """

    ids: list[str]
    embeddings: Embeddings
    records: Callable[[], Iterator[Record]] | None = None


def build_index(
    path: Path,
    corpus: Corpus,
    recipe: Recipe,
    *,
    encoder: Encoder | None,
    seed: int = 0,
    store_texts: bool = False,
    progress: Progress = silent,
) -> tuple[Index, dict[str, float]]:
    """Build an index in a new folder; return it with the seconds that each stage took."""
    vectors = corpus.embeddings
    made: dict[str, Any] = {"dim": vectors.dim} if encoder is None else {"encoder": encoder}
    made |= {"store_texts": store_texts, "store_pictures": False}
    index = Index.create(path, recipe=recipe, seed=seed, **made)
    try:
        numbers = reservoir(range(len(corpus.ids)), SAMPLE, seed)
        index.fit(vectors.take(numbers), _texts_of(corpus, numbers))
        records = None if corpus.records is None else corpus.records()
        with index.batch() as batch:
            progress("index", 0, len(corpus.ids))
            for start, block in vectors.blocks(BLOCK_TOKENS):
                stop = start + len(block)
                some = None if records is None else list(islice(records, len(block)))
                batch.add(
                    corpus.ids[start:stop],
                    None if some is None else [_storable(record.text) for record in some],
                    embeddings=block,
                    metadata=None if some is None else [record.metadata for record in some],
                )
                progress("index", stop, len(corpus.ids))
    except BaseException:
        index.close()
        raise
    return index, dict(batch.seconds)


def _storable(text: str) -> str:
    """Return a text that can be written as UTF-8: halves of characters become question marks."""
    return text.encode("utf-8", "replace").decode()


def _texts_of(corpus: Corpus, numbers: list[int]) -> list[str | None] | None:
    if corpus.records is None:
        return None
    wanted = set(numbers)
    return [record.text for number, record in enumerate(corpus.records()) if number in wanted]
