"""What an evaluation needs of a collection: judged queries and documents, as vectors.

Texts are encoded through the embedding cache. Vectors that somebody else made are read from a
file, either for the texts of a folder in BEIR's layout or alone, with judgements in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from colreduce.embed import Encoder, reads_pages
from colreduce.embed.precomputed import query_vectors, vector_batches
from colreduce.errors import BadData, BadInput
from colreduce.evaluate.beir import BeirFolder, Qrels
from colreduce.evaluate.build import Corpus
from colreduce.evaluate.embeddings import Embeddings, EmbeddingStore, Progress, silent
from colreduce.evaluate.judged import Judged, read_judged, read_judged_vectors
from colreduce.evaluate.sample import chunks
from colreduce.ragged import Ragged


@dataclass(frozen=True, slots=True)
class Collection:
    """Judged queries and a corpus, both with their vectors.

    query_texts  None for each query of which only vectors are known
    text_bytes   the size of the corpus in UTF-8
    key          names the vectors of corpus and queries together; empty when they are not kept
    """

    name: str
    split: str
    qrels: Qrels
    query_ids: list[str]
    query_texts: list[str | None]
    queries: Ragged
    corpus: Corpus
    text_bytes: int
    encoder: Encoder | None
    encoder_name: str
    key: str = ""


def load_collection(
    source: Path,
    encoder: Encoder | None,
    store: EmbeddingStore,
    *,
    split: str = "test",
    vectors: Path | None = None,
    batch_size: int = 32,
    progress: Progress = silent,
) -> Collection:
    """Read a collection and get its vectors, from the store where they are known already.

    source   a folder in BEIR's layout, or a file of vectors that also holds judgements
    vectors  a file of vectors for the texts of the folder, in place of an encoder
    """
    if source.is_file():
        judged = read_judged_vectors(source)
    else:
        judged = read_judged(BeirFolder(source), split, vectors=vectors)
    return with_vectors(judged, encoder, store, batch_size=batch_size, progress=progress)


def with_vectors(
    judged: Judged,
    encoder: Encoder | None,
    store: EmbeddingStore,
    *,
    batch_size: int = 32,
    progress: Progress = silent,
) -> Collection:
    """Get the vectors of a collection: from its file of vectors, or from the encoder."""
    asked, folder, key = list(judged.queries), judged.folder, ""
    if judged.vectors is not None:
        queries, name, encoder = _queries_of(judged.vectors, asked), judged.vectors.name, None
        embeddings = _documents_of(judged.vectors, judged.documents, store, progress)
    elif encoder is not None and folder is not None:
        given = [text or "" for text in judged.queries.values()]
        encoded = store.queries(encoder, given, batch_size)
        embeddings = of_folder(folder, encoder, store, batch_size, progress)
        queries, key = encoded.span(0, len(asked)), f"{embeddings.key}-{encoded.key}"
        name = str(encoder.identity["name"])
    else:
        raise BadInput("wanted an encoder, or a file of vectors in its place", field="encoder")
    return Collection(
        name=judged.name,
        split=judged.split,
        qrels=judged.qrels,
        query_ids=asked,
        query_texts=list(judged.queries.values()),
        queries=queries,
        corpus=Corpus(judged.documents, embeddings, None if folder is None else folder.corpus),
        text_bytes=judged.text_bytes,
        encoder=encoder,
        encoder_name=name,
        key=key,
    )


def of_folder(
    folder: BeirFolder,
    encoder: Encoder,
    store: EmbeddingStore,
    batch_size: int = 32,
    progress: Progress = silent,
) -> Embeddings:
    """Return the vectors of a folder's documents: of its texts, or of the pages that it names."""
    if reads_pages(encoder):
        return store.pages(encoder, folder.pages, batch_size=batch_size, progress=progress)
    return store.documents(
        encoder,
        lambda: (record.text for record in folder.corpus()),
        batch_size=batch_size,
        progress=progress,
    )


def _queries_of(path: Path, asked: list[str]) -> Ragged:
    found = dict(zip(*query_vectors(path), strict=True))
    for name in asked:
        if name not in found:
            raise BadData(f"{path}: there are no vectors for the query {name!r}")
    return Ragged.pack([found[name] for name in asked])


def _documents_of(
    path: Path, ids: list[str], store: EmbeddingStore, progress: Progress
) -> Embeddings:
    """Copy a file's vectors to where they can be mapped, in the order of ``ids``."""
    order: dict[str, int] = {}

    def batches() -> Iterator[Ragged]:
        for batch in vector_batches(path):
            for name in batch.ids:
                order[name] = len(order)
            yield batch.vectors

    total = sum(len(batch.ids) for batch in vector_batches(path))
    given = store.write_once(batches(), total, progress)
    for name in ids:
        if name not in order:
            raise BadData(f"{path}: there are no vectors for the document {name!r}")
    wanted = [order[name] for name in ids]
    if wanted == list(range(total)):
        return given
    return store.write_once((given.take(some) for some in chunks(wanted, 256)), len(ids), progress)
