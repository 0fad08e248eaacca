"""Queries that a ledger is measured on: given ones, or else drawn from the documents themselves.

A sentence of a document, encoded as a query, asks for what documents like it say; where there are
only vectors, a run of neighbouring token vectors stands in for it. The document that a query was
drawn from answers it trivially, so it is hidden from that query.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from colreduce.embed import Encoder
from colreduce.errors import BadInput
from colreduce.evaluate.beir import BeirFolder, Qrels, read_queries
from colreduce.evaluate.sample import reservoir
from colreduce.ragged import Ragged

JUDGED, GIVEN, SENTENCES, SPANS = "judged", "given", "sentences", "spans"

# What each kind of query is called where people read it.
KINDS = {
    JUDGED: "queries with judgements",
    GIVEN: "queries without judgements",
    SENTENCES: "sentences of the documents",
    SPANS: "runs of the documents' vectors",
}

# Given queries that are asked at most.
MOST_GIVEN = 300

# Queries that are drawn: enough to see a loss of a few percent, few enough to cost little.
QUERIES = 64

# A sentence that has so many words says something; a run has so many vectors.
FEWEST, MOST = 5, 24
SPAN = 12

_BETWEEN = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Asking:
    """Queries, as text where it is known, each with the id of the document it was drawn from.

    sources  of a query that was given, its own id: as in BEIR, such a document does not count
    grades   of documents by their ids, for every query; nothing where there are no judgements
    """

    kind: str
    vectors: Ragged
    texts: Sequence[str | None]
    sources: Sequence[str]
    grades: Sequence[Mapping[str, int]] = ()

    def __len__(self) -> int:
        return len(self.sources)


def given(path: Path, split: str | None, encoder: Encoder, seed: int) -> Asking:
    """Read the queries of a JSONL file, or those of a folder in BEIR's layout.

    split  which judgements of the folder count; only judged queries are asked then
    """
    queries, qrels = _read(path, split)
    ids = reservoir([one for one in queries if not qrels or one in qrels], MOST_GIVEN, seed)
    if not ids:
        raise BadInput(f"{path} holds no queries", field="queries")
    texts = [queries[one] for one in ids]
    grades = [qrels[one] for one in ids] if qrels else []
    vectors = Ragged.pack(encoder.queries(texts))
    return Asking(JUDGED if qrels else GIVEN, vectors, texts, ids, grades)


def _read(path: Path, split: str | None) -> tuple[dict[str, str], Qrels]:
    if not path.is_dir():
        if split is not None:
            raise BadInput(
                f"{path} is a file of queries and has no judgements of split {split!r}. "
                "Give a folder in BEIR's layout, or no split.",
                field="queries",
            )
        return read_queries(path), {}
    folder = BeirFolder(path)
    return folder.queries(), {} if split is None else folder.qrels(split)


def draw(
    ids: Sequence[str],
    vectors: Ragged,
    texts: Sequence[str | None] | None,
    encoder: Encoder | None,
    seed: int,
    count: int = QUERIES,
) -> Asking:
    """Draw queries from some documents: sentences where there are texts and an encoder.

    What is drawn from a document depends on its id and the seed alone, whatever others are there.
    """
    chances = [random.Random(f"{seed} {one}") for one in ids]
    order = [chance.random() for chance in chances]
    rows = sorted(range(len(ids)), key=order.__getitem__)
    if encoder is not None and texts is not None:
        drawn = [(row, _sentence(texts[row] or "", chances[row])) for row in rows]
        chosen = [(row, text) for row, text in drawn if text][:count]
        if chosen:
            asked = [text for _, text in chosen]
            encoded = Ragged.pack(encoder.queries(asked))
            return Asking(SENTENCES, encoded, asked, [ids[row] for row, _ in chosen])
    items = vectors.unpack()
    spans = [_span(items[row], chances[row]) for row in rows[:count]]
    return Asking(
        SPANS, Ragged.pack(spans), [None] * len(spans), [ids[row] for row in rows[:count]]
    )


def _sentence(text: str, chance: random.Random) -> str:
    """Draw one sentence that is long enough; the beginning of one that is too long."""
    words = [sentence.split() for sentence in _BETWEEN.split(text)]
    enough = [some for some in words if len(some) >= FEWEST]
    return " ".join(chance.choice(enough)[:MOST]) if enough else ""


def _span(tokens: Tensor, chance: random.Random) -> Tensor:
    size = min(SPAN, len(tokens))
    start = chance.randrange(len(tokens) - size + 1)
    return tokens[start : start + size].float()
