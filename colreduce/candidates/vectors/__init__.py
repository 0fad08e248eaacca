"""How a segment keeps one vector per document, and finds the nearest to a query's."""

from __future__ import annotations

from colreduce.candidates.vectors import kinds
from colreduce.candidates.vectors.base import VectorStore
from colreduce.candidates.vectors.flat import Flat
from colreduce.candidates.vectors.indexed import Indexed

# What measurements on real vectors say (benchmarks/results/first_stages.md): while a segment has
# few numbers, reading all of them in float16 is exact and takes milliseconds. Beyond that, narrow
# vectors go into lists, and an eighth of the lists holds what is looked for. Wide ones (FDE) lose
# next to nothing at half a bit a number, and are then read in a tenth of the time.
VECTOR_STORES: dict[str, VectorStore] = {
    "auto": Indexed(kinds.IVF, wide=kinds.PQ4, small_floats=1 << 23),
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
