"""Documents as vectors that somebody else made, from ``.npz`` and ``.safetensors`` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from colreduce.embed.precomputed import vector_batches, vector_files
from colreduce.errors import BadInput
from colreduce.index.limits import MAX_DOCUMENT_TOKENS, MAX_NORM
from colreduce.ragged import Ragged
from colreduce.store.layout import checked_id
from colreduce_indexer.sources.base import TOGETHER, Bad, Batch, Documents
from colreduce_indexer.sources.lines import states


@dataclass(frozen=True)
class Vectors:
    """Files of vectors, one after the other."""

    name: str
    path: Path
    vectors: bool = True

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Read the files; vectors before ``start`` are read and left out."""
        number = 0
        for batch in vector_batches(self.path, TOGETHER, checked=False):
            left_out = min(max(start - number, 0), len(batch.ids))
            if left_out < len(batch.ids):
                ids = batch.ids[left_out:]
                numbers = range(number + left_out, number + len(batch.ids))
                places = [f"document {one!r}" for one in ids]
                yield vectors_batch(ids, batch.vectors.take(slice(left_out, None)), numbers, places)
            number += len(batch.ids)

    def state(self) -> list[list[Any]] | None:
        """Return the size and the time of every file."""
        return states(vector_files(self.path))


def vectors_batch(
    ids: Sequence[str],
    vectors: Ragged,
    numbers: Sequence[int],
    places: Sequence[str],
    texts: Sequence[str] | None = None,
    metadata: Sequence[Any] | None = None,
) -> Batch:
    """Make a batch of documents whose ids and vectors are looked at."""
    wrong = _wrong(vectors)
    for row, one in enumerate(ids):
        try:
            checked_id(one)
            if not one.isprintable():
                wrong.setdefault(row, "has an id with a character that cannot be printed")
        except BadInput as problem:
            wrong.setdefault(row, f"cannot be named so: {problem}".removesuffix("."))
    bad = [Bad(numbers[row], places[row], wrong[row]) for row in sorted(wrong)]
    kept = [row for row in range(len(ids)) if row not in wrong]
    return Batch(Documents(ids, numbers, places, texts, metadata, vectors).take(kept), bad)


def _wrong(vectors: Ragged) -> dict[int, str]:
    """Say what is wrong with which documents' vectors."""
    norms = vectors.tokens.float().norm(dim=1)
    fits = (norms > 0) & (norms <= MAX_NORM)  # what is not finite fits nowhere
    wrong: dict[int, str] = {}
    for row in torch.nonzero(~fits).flatten().tolist():
        length = float(norms[row])
        told = (
            f"has a vector of length {length:g}; wanted more than 0 and at most {MAX_NORM:g}"
            if torch.isfinite(norms[row])
            else "holds a value that is not finite"
        )
        wrong.setdefault(int(vectors.item_of[row]), told)
    for item in torch.nonzero(vectors.lengths > MAX_DOCUMENT_TOKENS).flatten().tolist():
        count = int(vectors.lengths[item])
        wrong.setdefault(item, f"has {count} vectors; at most {MAX_DOCUMENT_TOKENS} are taken")
    return wrong
