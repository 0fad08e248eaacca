"""What a plan is made for: a corpus with its vectors, and queries to try recipes on.

With judgements the queries are the judged ones, and quality is a metric of ir-measures. Without,
they are the queries that lie beside the corpus, or else pseudo-queries drawn from the documents
(`colreduce.evaluate.held_out`), and quality is the agreement with exact search's best ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.embed import Encoder
from colreduce.embed.precomputed import judgements, vector_batches
from colreduce.errors import BadData, BadInput
from colreduce.evaluate.beir import QUERIES, BeirFolder, Qrels
from colreduce.evaluate.build import Corpus
from colreduce.evaluate.collection import Collection, load_collection, of_folder
from colreduce.evaluate.embeddings import Embeddings, EmbeddingStore
from colreduce.evaluate.held_out import GIVEN as GIVEN
from colreduce.evaluate.held_out import JUDGED as JUDGED
from colreduce.evaluate.held_out import draw
from colreduce.evaluate.progress import Progress
from colreduce.evaluate.records import Record
from colreduce.evaluate.sample import reservoir
from colreduce.ragged import Ragged

# With fewer queries than this there is nothing to hold back.
FEWEST = 8

# No document is hidden from a query.
NONE = -1


@dataclass(frozen=True, slots=True)
class Task:
    """A corpus and queries.

    kind    judged, given (queries without judgements), or the kind of pseudo-queries
    hidden  [queries] the row of the document that a query must not find, or -1
    qrels   None without judgements
    """

    name: str
    kind: str
    corpus: Corpus
    queries: Ragged
    query_ids: list[str]
    query_texts: list[str | None]
    hidden: NDArray[np.int64]
    qrels: Qrels | None
    text_bytes: int
    encoder: Encoder | None

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def documents(self) -> Embeddings:
        """Return the vectors of the corpus."""
        return self.corpus.embeddings

    @property
    def reads_text(self) -> bool:
        """Say whether documents and queries are known as texts."""
        return self.corpus.records is not None and None not in self.query_texts

    def take(self, queries: NDArray[np.int64]) -> Task:
        """Return the task with some of its queries only."""
        return replace(
            self,
            queries=self.queries.take(torch.from_numpy(queries)),
            query_ids=[self.query_ids[one] for one in queries],
            query_texts=[self.query_texts[one] for one in queries],
            hidden=self.hidden[queries],
        )


def load_task(
    source: Path,
    encoder: Encoder | None,
    store: EmbeddingStore,
    *,
    split: str | None,
    vectors: Path | None,
    queries: int,
    seed: int,
    batch_size: int,
    progress: Progress,
) -> Task:
    """Read a corpus with its queries, at most so many of them, drawn by the seed.

    split    which judgements; None to plan without any
    vectors  a file of vectors for the folder's texts, in place of an encoder
    """
    if split is not None and _is_judged(source):
        found = load_collection(
            source,
            encoder,
            store,
            split=split,
            vectors=vectors,
            batch_size=batch_size,
            progress=progress,
        )
        task = _judged(found)
    else:
        corpus, size = _corpus(source, encoder, store, vectors, batch_size, progress)
        task = _unjudged(source, corpus, size, encoder, store, queries, seed)
    if len(task) > queries:
        task = task.take(np.array(reservoir(range(len(task)), queries, seed), dtype=np.int64))
    if len(task) < FEWEST:
        raise BadInput(
            f"{source} gives {len(task)} queries to plan on; wanted {FEWEST} at least. "
            "Give more judged queries or more documents.",
            field="queries",
        )
    return task


def _is_judged(source: Path) -> bool:
    if source.is_dir():
        return bool(BeirFolder(source).splits())
    if source.suffix not in (".npz", ".safetensors"):
        return False
    try:
        judgements(source)
    except BadData:
        return False  # a file that cannot be read at all says so when its documents are read
    return True


def _judged(found: Collection) -> Task:
    rows = {name: row for row, name in enumerate(found.corpus.ids)}
    # A hit whose id is the query's own does not count, as in BEIR.
    hidden = np.array([rows.get(name, NONE) for name in found.query_ids], dtype=np.int64)
    return Task(
        found.name,
        JUDGED,
        found.corpus,
        found.queries,
        found.query_ids,
        found.query_texts,
        hidden,
        found.qrels,
        found.text_bytes,
        found.encoder,
    )


def _unjudged(
    source: Path,
    corpus: Corpus,
    text_bytes: int,
    encoder: Encoder | None,
    store: EmbeddingStore,
    count: int,
    seed: int,
) -> Task:
    given = _given(source) if encoder is not None else {}
    if encoder is not None and len(given) >= FEWEST:
        names = reservoir(list(given), count, seed)
        texts: list[str | None] = [given[name] for name in names]
        encoded = store.queries(encoder, [given[name] for name in names])
        kind, asked = GIVEN, encoded.span(0, len(names))
        hidden = np.full(len(names), NONE, dtype=np.int64)
    else:
        # Not every document has a sentence that is long enough.
        rows = reservoir(range(len(corpus.ids)), 4 * count, seed)
        sample = corpus.embeddings.take(rows)
        ids = [corpus.ids[row] for row in rows]
        drawn = draw(ids, sample, texts_of(corpus, rows), encoder, seed, count)
        where = dict(zip(ids, rows, strict=True))
        kind, asked, texts = drawn.kind, drawn.vectors, list(drawn.texts)
        names = [f"from {one}" for one in drawn.sources]
        hidden = np.array([where[one] for one in drawn.sources], dtype=np.int64)
    return Task(
        source.resolve().stem,
        kind,
        corpus,
        asked,
        names,
        texts,
        hidden,
        None,
        text_bytes,
        encoder,
    )


def _given(source: Path) -> dict[str, str]:
    """Return the queries that lie beside a corpus, if there are any."""
    packed = ("", ".gz")
    there = any((source / f"{name}{end}").is_file() for name in QUERIES for end in packed)
    return BeirFolder(source).queries() if there else {}


def _corpus(
    source: Path,
    encoder: Encoder | None,
    store: EmbeddingStore,
    vectors: Path | None,
    batch_size: int,
    progress: Progress,
) -> tuple[Corpus, int]:
    """Return the corpus and the bytes of its texts."""
    alone = source.suffix in (".npz", ".safetensors")
    if vectors is not None or alone:
        file, ids = vectors or source, list[str]()

        def batches() -> Iterator[Ragged]:
            for batch in vector_batches(file):
                ids.extend(batch.ids)
                yield batch.vectors

        total = sum(len(batch.ids) for batch in vector_batches(file))
        return Corpus(ids, store.write_once(batches(), total, progress)), 0
    if encoder is None:
        raise BadInput("wanted an encoder, or a file of vectors in its place", field="encoder")
    if not source.exists():
        raise BadData(f"there is no file or folder {source}")
    folder = BeirFolder(source)
    ids, size = [], 0
    for record in folder.corpus():
        ids.append(record.id)
        size += len(record.text.encode("utf-8", "surrogatepass"))
    records: Callable[[], Iterator[Record]] = folder.corpus
    embeddings = of_folder(folder, encoder, store, batch_size, progress)
    return Corpus(ids, embeddings, records), size


def texts_of(corpus: Corpus, rows: list[int]) -> list[str | None] | None:
    """Return the texts of some rows in ascending order; None where there are only vectors."""
    if corpus.records is None:
        return None
    wanted = set(rows)
    return [record.text for row, record in enumerate(corpus.records()) if row in wanted]
