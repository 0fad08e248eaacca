"""Queries that a ledger is measured on when nobody gave any: drawn from the documents themselves.

A sentence of a document, encoded as a query, asks for what documents like it say; where there are
only vectors, a run of neighbouring token vectors stands in for it. The document that a query was
drawn from answers it trivially, so it is hidden from that query.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from colreduce.embed import Encoder
from colreduce.ragged import Ragged

SENTENCES, SPANS = "sentences", "spans"

# Queries that are drawn: enough to see a loss of a few percent, few enough to cost little.
QUERIES = 64

# A sentence that has so many words says something; a run has so many vectors.
FEWEST, MOST = 5, 24
SPAN = 12

_BETWEEN = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Asking:
    """Queries, as text where it is known, each with the id of the document it was drawn from."""

    kind: str
    vectors: Ragged
    texts: Sequence[str | None]
    sources: Sequence[str]

    def __len__(self) -> int:
        return len(self.sources)


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
