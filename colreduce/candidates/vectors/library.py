"""FAISS behind a narrow door: found or missed with a clear message, read and written as bytes.

Index files are written through a callback into the store's own checked file, and read in place
from bytes that the store has verified: FAISS itself neither opens files nor notices damage.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from colreduce.errors import MissingDependency

log = logging.getLogger(__name__)

# FAISS on a GPU returns no more neighbours, and looks into no more lists, than this.
GPU_MOST = 2048
# Bytes that a search on a GPU works in; FAISS would take 1.5 GiB for itself.
GPU_WORKING_MEMORY = 256 << 20


def load_faiss() -> Any:
    """Return the module, or say how to install it.

    Both builds of FAISS install into one folder, and removing one can leave that folder behind
    empty: an import then succeeds and finds nothing.
    """
    try:
        import faiss
    except ImportError as error:
        raise MissingDependency(_missing("is not installed")) from error
    if not hasattr(faiss, "IndexFlatIP"):
        raise MissingDependency(_missing("was half removed: its folder is there and empty"))
    return faiss


def _missing(state: str) -> str:
    return (
        f"this store keeps its vectors in FAISS, which {state}. "
        "Run: pip install 'colreduce[cpu]' (or 'colreduce[gpu]', never both). "
        "The stores flat, fp16 and sq8 work without it."
    )


def written(index: Any) -> Callable[[BinaryIO], None]:
    """Return a function that writes the index to a stream."""

    def write(stream: BinaryIO) -> None:
        faiss = load_faiss()
        failures: list[BaseException] = []

        def checked(data: bytes) -> int:
            # An exception must not unwind through FAISS; it is kept and raised afterwards.
            try:
                stream.write(data)
            except BaseException as error:
                failures.append(error)
                return 0
            return len(data)

        writer = faiss.PyCallbackIOWriter(checked)
        try:
            faiss.write_index(index, writer)
        except RuntimeError:
            if not failures:
                raise
        if failures:
            raise failures[0]

    return write


def read(content: NDArray[np.uint8]) -> Any:
    """Return the index in ``content``. Where it can, it uses the bytes in place.

    The caller keeps ``content`` for as long as the index.
    """
    faiss = load_faiss()
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(content), content.size)
    return faiss.read_index(reader)


def serialized(index: Any) -> NDArray[np.uint8]:
    """Return the index as bytes."""
    content: NDArray[np.uint8] = load_faiss().serialize_index(index)
    return content


def emptied(content: NDArray[np.uint8]) -> Any:
    """Return the index in ``content`` without its vectors, in memory of its own.

    What was read in place cannot be emptied nor added to: FAISS would write to those bytes.
    """
    index = load_faiss().deserialize_index(content)
    index.reset()
    return index


def gpus() -> int:
    """Return how many GPUs this FAISS works on; 0 where it is not installed or knows none."""
    try:
        faiss = load_faiss()
    except MissingDependency:
        return 0
    # The build for GPUs can be there without any, and then its resources can be asked for, too.
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


class OnGpu:
    """A copy of an index on the first GPU.

    FAISS' working memory there serves one search at a time, whichever index it is of. One piece of
    it is shared by all, since a piece for each of many segments would fill the card.
    """

    lock = threading.Lock()

    def __init__(self, index: Any) -> None:
        self.index = index

    def search(self, queries: NDArray[np.float32], k: int, params: Any | None = None) -> Any:
        """Return what FAISS' own method returns."""
        with self.lock:
            return self.index.search(queries, k, params=params)


@cache
def _resources() -> Any:
    resources = load_faiss().StandardGpuResources()
    resources.setTempMemory(GPU_WORKING_MEMORY)
    return resources


def on_gpu(index: Any) -> OnGpu | None:
    """Return a copy of the index on the first GPU; None if there is none or it cannot go there."""
    if not gpus():
        return None
    try:
        with OnGpu.lock:
            moved = load_faiss().index_cpu_to_gpu(_resources(), 0, index)
    except RuntimeError as error:
        log.info("this index stays on the CPU: %s", error)
        return None
    log.info("%s is searched on the first of %d GPUs", type(index).__name__, gpus())
    return OnGpu(moved)


def train(index: Any, vectors: NDArray[np.float32]) -> Any:
    """Train an index; where there is a GPU, its lists are found there."""
    faiss = load_faiss()
    # What an index is told of its clustering would be lost on the way to a GPU and back. So the
    # index stays, and only the vectors that clusters are found among go there.
    lists = hasattr(index, "clustering_index")
    nearest = on_gpu(faiss.IndexFlatIP(int(index.d))) if lists else None
    if nearest is None:
        index.train(vectors)
        return index
    index.clustering_index = nearest.index
    with OnGpu.lock:
        index.train(vectors)
    index.clustering_index = None
    return index
