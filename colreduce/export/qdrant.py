"""Qdrant: a collection in a local folder, or through a client that the caller has opened."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import AlreadyExists, BadInput
from colreduce.export.base import Exporter
from colreduce.export.source import Block, Source
from colreduce.index import Index
from colreduce.store import fs

COLLECTION = "documents"
MOST_FLOATS = (1 << 20) - 1  # of one multivector: fewer than 1,048,576
MOST_WIDTH = (1 << 16) - 1  # of one vector
LOCAL_POINTS = 20_000  # more than these are slow in a local folder, as its makers say

# Points have numbers or UUIDs for ids; ours are made from the document's id, so they never change.
_NAMES = uuid.UUID("6f1d8f0e-6a5b-5e0e-9d43-0d4b9d5c2a11")


class Qdrant(Exporter):
    """A Qdrant folder, to be opened by ``QdrantClient(path=…)``: collection ``documents``."""

    name: ClassVar[str] = "qdrant"
    needs: ClassVar[str] = "qdrant-client"

    def check(self, source: Source) -> list[str]:
        """Refuse vectors that are too wide; say which documents become several points."""
        wide = {n: w for n, w in {"vectors": source.dim, **source.widths}.items() if w > MOST_WIDTH}
        if wide:
            [name, width] = next(iter(wide.items()))
            raise BadInput(
                f"Qdrant takes vectors of up to {MOST_WIDTH:,} numbers; {name} has {width:,}. "
                "Give the first stage a final_dim, or export to another format."
            )
        remarks = []
        longest = most_vectors(source.dim)
        split = int((source.lengths > longest).sum())
        if split:
            remarks.append(
                f"Qdrant takes fewer than {MOST_FLOATS + 1:,} numbers a point: {split:,} documents "
                f"with more than {longest:,} vectors became several points each, with the same "
                "payload 'id'. Group by 'id'; such a document's score is that of its best point."
            )
        if source.documents > LOCAL_POINTS:
            remarks.append(
                f"A local folder keeps all points in memory and is slow beyond {LOCAL_POINTS:,}: "
                "use it to hand them on to a server with QdrantClient.migrate."
            )
        return remarks

    def write(self, source: Source, place: Path) -> None:
        """Fill a collection of Qdrant's local mode."""
        client = self.load().QdrantClient(path=str(place))
        try:
            _fill(client, COLLECTION, source)
        finally:
            client.close()
        fs.unlink(place / ".lock")


def upload(client: Any, index: Index, collection: str, *, texts: bool = True) -> list[str]:
    """Write all documents of an index into a new collection of an open ``QdrantClient``.

    Returns what was split or left out. A collection that is there already is never touched; one
    that could not be filled is removed again.
    """
    source = Source(index, texts=texts)
    remarks = [*source.left_out(), *Qdrant().check(source)]
    if client.collection_exists(collection):
        raise AlreadyExists(f"the collection {collection!r} exists; choose another name")
    try:
        _fill(client, collection, source)
    except BaseException:
        client.delete_collection(collection)
        raise
    return remarks


def most_vectors(dim: int) -> int:
    """Return how many vectors of a width one point may have."""
    return MOST_FLOATS // dim


def _fill(client: Any, collection: str, source: Source) -> None:
    from qdrant_client import models

    single = {
        name: models.VectorParams(size=width, distance=models.Distance.DOT)
        for name, width in source.widths.items()
    }
    # Multivectors rerank what the first stage found; a graph over them would only cost.
    many = models.VectorParams(
        size=source.dim,
        distance=models.Distance.DOT,
        hnsw_config=models.HnswConfigDiff(m=0),
        multivector_config=models.MultiVectorConfig(
            comparator=models.MultiVectorComparator.MAX_SIM
        ),
    )
    client.create_collection(collection, vectors_config={"vectors": many, **single})
    for block in source.blocks():
        for points in _batches(_points(block, source, models)):
            client.upsert(collection, points, wait=True)


def _points(block: Block, source: Source, models: Any) -> Iterator[Any]:
    for place, name in enumerate(block.ids):
        parts = _parts(block.of(place), most_vectors(source.dim))
        for number, part in enumerate(parts):
            payload: dict[str, Any] = {"id": name, "metadata": block.metadata[place]}
            if source.texts:
                payload["text"] = block.texts[place]
            if len(parts) > 1:
                payload |= {"part": number, "parts": len(parts)}
            single = {key: vectors[place].tolist() for key, vectors in block.single.items()}
            yield models.PointStruct(
                id=point_id(name, number),
                vector={"vectors": part.tolist(), **single},
                payload=payload,
            )


def point_id(name: str, part: int = 0) -> str:
    """Return the UUID of a document's point."""
    return str(uuid.uuid5(_NAMES, f"{part}/{name}"))


def _parts(vectors: NDArray[np.float32], most: int) -> list[NDArray[np.float32]]:
    return [vectors[start : start + most] for start in range(0, len(vectors), most)]


def _batches(points: Iterator[Any], most: int = 64) -> Iterator[list[Any]]:
    some: list[Any] = []
    for point in points:
        some.append(point)
        if len(some) == most:
            yield some
            some = []
    if some:
        yield some
