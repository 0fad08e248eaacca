"""The kinds of FAISS index that are offered, each made from a width and a number of vectors.

Made by constructors, not by factory strings: a factory's PQ also trains a polysemous order, which
takes twenty times as long and serves nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from colreduce.candidates.vectors.library import load_faiss

# Points of the sample per centroid that FAISS asks for; fewer work, and it complains on stderr.
FEWEST_PER_CENTROID = 1


@dataclass(frozen=True)
class Kind:
    """A kind of index.

    make     (width, vectors it will be trained on) -> untrained index
    selects  whether a search can be told which rows to look at
    efforts  the search parameter that ``effort`` sets: nprobe, efSearch or none
    effort   its default; 0 takes an eighth of the lists
    pack     index -> a form that is searched faster and can do nothing else
    """

    make: Callable[[int, int], Any]
    selects: bool
    efforts: str = ""
    effort: int = 0
    pack: Callable[[Any], Any] | None = None


def group_size(width: int, most: int) -> int:
    """Return the largest divisor of ``width`` up to ``most``: the numbers coded together."""
    return next(size for size in range(min(most, width), 0, -1) if width % size == 0)


def lists_for(vectors: int) -> int:
    """Return how many lists to cut so many vectors into: four times the root, a power of two."""
    return int(1 << max(round(4 * vectors**0.5).bit_length() - 1, 0))


def _quantizer(width: int, numbers: int, bits: int) -> Any:
    faiss = load_faiss()
    index = faiss.IndexPQ(
        width, width // group_size(width, numbers), bits, faiss.METRIC_INNER_PRODUCT
    )
    index.do_polysemous_training = False
    _calm(index.pq.cp)
    return index


def _calm(clustering: Any) -> None:
    clustering.min_points_per_centroid = FEWEST_PER_CENTROID
    clustering.niter = 10


def _pq(width: int, _: int) -> Any:
    return _quantizer(width, 8, 8)


def _pq4(width: int, _: int) -> Any:
    return _quantizer(width, 4, 4)


def _ivf(width: int, vectors: int) -> Any:
    faiss = load_faiss()
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width),
        width,
        lists_for(vectors),
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    return _with_lists(index)


def _ivfpq(width: int, vectors: int) -> Any:
    faiss = load_faiss()
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(width),
        width,
        lists_for(vectors),
        width // group_size(width, 8),
        8,
        faiss.METRIC_INNER_PRODUCT,
    )
    _calm(index.pq.cp)
    return _with_lists(index)


def _with_lists(index: Any) -> Any:
    index.cp.spherical = True  # the lists of an inner product are found by direction
    _calm(index.cp)
    return index


def _hnsw(width: int, _: int) -> Any:
    faiss = load_faiss()
    index = faiss.IndexHNSWSQ(width, faiss.ScalarQuantizer.QT_fp16, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    return index


def _rabitq(bits: int) -> Callable[[int, int], Any]:
    def make(width: int, _: int) -> Any:
        faiss = load_faiss()
        index = faiss.IndexRaBitQ(width, faiss.METRIC_INNER_PRODUCT, bits)
        index.qb = 8  # bits of the query's numbers
        return index

    return make


def _pq_fast(index: Any) -> Any:
    return load_faiss().IndexPQFastScan(index, 32)


def _rabitq_fast(index: Any) -> Any:
    return load_faiss().IndexRaBitQFastScan(index, 32)


PQ = Kind(_pq, selects=False)
PQ4 = Kind(_pq4, selects=False, pack=_pq_fast)
IVF = Kind(_ivf, selects=True, efforts="nprobe")
IVFPQ = Kind(_ivfpq, selects=True, efforts="nprobe")
HNSW = Kind(_hnsw, selects=True, efforts="efSearch", effort=256)
RABITQ = Kind(_rabitq(1), selects=True)
RABITQ2 = Kind(_rabitq(2), selects=True)
RABITQ_FAST = Kind(_rabitq(1), selects=True, pack=_rabitq_fast)
