"""How a segment keeps one vector per document, and finds the nearest to a query's."""

from __future__ import annotations

from colreduce.candidates.vectors import kinds
from colreduce.candidates.vectors.base import VectorStore
from colreduce.candidates.vectors.flat import Flat
from colreduce.candidates.vectors.indexed import Indexed

VECTOR_STORES: dict[str, VectorStore] = {
    "flat": Flat("float32"),
    "fp16": Flat("float16"),
    "sq8": Flat("int8"),
    "pq": Indexed(kinds.PQ),
    "pq4": Indexed(kinds.PQ4),
    "ivf": Indexed(kinds.IVF),
    "ivfpq": Indexed(kinds.IVFPQ),
    "hnsw": Indexed(kinds.HNSW),
    "rabitq": Indexed(kinds.RABITQ),
    "rabitq2": Indexed(kinds.RABITQ2),
    "rabitq_fast": Indexed(kinds.RABITQ_FAST),
}
