"""How a segment keeps one vector per document, and finds the nearest to a query's."""

from __future__ import annotations

from colreduce.candidates.vectors.base import VectorStore
from colreduce.candidates.vectors.flat import Flat

VECTOR_STORES: dict[str, VectorStore] = {
    "flat": Flat("float32"),
    "fp16": Flat("float16"),
    "sq8": Flat("int8"),
}
