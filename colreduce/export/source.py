"""An index as exporters read it: documents with their vectors, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from colreduce.candidates.base import FirstStage
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.candidates.single import SingleVector, SingleVectorSearcher
from colreduce.errors import BadInput
from colreduce.index import Index
from colreduce.index.identity import LIBRARIES
from colreduce.index.search import OpenSegment
from colreduce.libraries import installed
from colreduce.ragged import runs

# Numbers held at a time: 32 MB as float32.
BLOCK_FLOATS = 1 << 23

# A vector whose length differs from 1 by no more than this is a unit vector after rounding.
UNIT = 0.02


@dataclass(frozen=True, slots=True)
class Block:
    """A run of documents.

    lengths  [n]     vectors of each document
    vectors  [t, d]  float32, all documents' end to end, decoded
    codes    [t, …]  the same vectors as they are stored, by the name of each array
    single   [n, f]  float32, one vector per document, by the name of the first stage
    """

    ids: list[str]
    metadata: list[dict[str, Any]]
    texts: list[str | None]
    lengths: NDArray[np.int64]
    vectors: NDArray[np.float32]
    codes: Mapping[str, NDArray[Any]]
    single: Mapping[str, NDArray[np.float32]]

    def of(self, place: int) -> NDArray[np.float32]:
        """Return the vectors of one document of the block."""
        stop = int(self.lengths[: place + 1].sum())
        return self.vectors[stop - int(self.lengths[place]) : stop]


class Source:
    """One generation of an index, read through as often as an exporter asks."""

    def __init__(self, index: Index, *, texts: bool = True, as_stored: bool = False) -> None:
        self._view = index.view
        self._pipeline = index.pipeline
        self.recipe = index.recipe
        self.as_stored = as_stored
        self.documents = self._view.snapshot.count
        if not self.documents:
            raise BadInput(f"there is nothing to export: {index.path} holds no documents")
        self.texts = texts and any(segment.data.texts is not None for segment in self._view.filled)
        self.about = {
            "format": 1,
            "recipe": str(index.recipe),
            "generation": index.generation,
            "documents": self.documents,
            "versions": installed(LIBRARIES),
        }

    @cached_property
    def stages(self) -> dict[str, str]:
        """Return the key of every first stage that has one vector per document, by its name."""
        named: dict[str, str] = {}
        for key, method in self._pipeline.recipe.keyed():
            if isinstance(method, SingleVector):
                again = sum(known.split("_")[0] == method.name for known in named)
                named[f"{method.name}_{again + 1}" if again else method.name] = key
        return named

    @cached_property
    def widths(self) -> dict[str, int]:
        """Return the width of each of those first stages' vectors."""
        first = self._first
        return {
            name: self._single(first, key, np.zeros(1, np.int64)).shape[1]
            for name, key in self.stages.items()
        }

    @cached_property
    def dim(self) -> int:
        """Return the width of the stored vectors."""
        return int(self._first.vectors(0).shape[1])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Return how many vectors each document has, in the order of `blocks`."""
        return np.concatenate([one.lengths[rows] for one, rows in self._live])

    @cached_property
    def unusual(self) -> int:
        """Return how many stored vectors are not of unit length; reads all of them once."""
        count = 0
        for block in self.blocks():
            norms = np.linalg.norm(block.vectors, axis=1)
            count += int((np.abs(norms - 1) > UNIT).sum())
        return count

    def left_out(self) -> list[str]:
        """Say which first stages have nothing that another system could search."""
        return [
            f"The first stage {method} keeps no vector per document and was left out."
            for _, method in self.recipe.keyed()
            if isinstance(method, FirstStage) and not isinstance(method, SingleVector | Exhaustive)
        ]

    def learned(self) -> dict[str, NDArray[Any]]:
        """Return what the codec learned, for those who decode the stored vectors."""
        state = self._pipeline.states.get("codec.0", {})
        return {name: tensor.numpy() for name, tensor in state.items()}

    def blocks(self) -> Iterator[Block]:
        """Yield all documents in bounded memory; deleted and replaced ones are not among them."""
        for one, rows in self._live:
            costs = one.lengths[rows] * self.dim + sum(self.widths.values())
            for start, stop in runs(costs, BLOCK_FLOATS):
                yield self._block(one, rows[start:stop])

    def _block(self, one: OpenSegment, rows: NDArray[np.int64]) -> Block:
        segment, ids = one.segment, one.segment.ids
        pieces = [codes for codes, _ in one.blocks(rows)]
        codes = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        texts = [segment.text(row) if self.texts else None for row in rows.tolist()]
        return Block(
            ids=[ids[row] for row in rows.tolist()],
            metadata=[segment.metadata(row) for row in rows.tolist()],
            texts=texts,
            lengths=one.lengths[rows],
            vectors=self._pipeline.decode(codes).numpy(),
            codes={name: array.numpy() for name, array in codes.items()},
            single={name: self._single(one, key, rows) for name, key in self.stages.items()},
        )

    def _single(self, one: OpenSegment, key: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        searcher: Any = one.searchers[key]  # every `SingleVector` opens one of these
        assert isinstance(searcher, SingleVectorSearcher)
        return searcher.vectors(rows)

    @cached_property
    def _live(self) -> list[tuple[OpenSegment, NDArray[np.int64]]]:
        """Return every segment with the rows that this generation shows."""
        found = [(one.name, np.flatnonzero(one.live).astype(np.int64)) for one in self._view.filled]
        return [(self._view.segments[name], rows) for name, rows in found if len(rows)]

    @property
    def _first(self) -> OpenSegment:
        return self._live[0][0]


def query_vectors(index: Index, query: Any) -> dict[str, NDArray[np.float32]]:
    """Return a query the way the exported vectors are to be asked.

    ``vectors`` [q, d] are compared by MaxSim with the documents' vectors; every other entry [f]
    goes by the name of a first stage, and is multiplied with the documents' of that name.
    """
    [asked] = index.ask([query])
    found = {"vectors": asked.query.vectors.numpy()}
    for name, key in Source(index).stages.items():
        method = dict(index.recipe.keyed())[key]
        assert isinstance(method, SingleVector)
        with torch.inference_mode():
            made = method.queries([asked.query], index.pipeline.states.get(key, {}))
        found[name] = made[0].numpy()
    return found
