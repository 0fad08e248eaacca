"""FAISS on a GPU: whether it works there, and how searches share its memory.

Here is what FAISS itself does not look after. It ends the process when it meets a card that it was
not compiled for, so that is tried in another process first. Its working memory serves one search at
a time, so searches take turns.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.vectors.library import load_faiss
from colreduce.errors import MissingDependency

log = logging.getLogger(__name__)

# FAISS on a GPU returns no more neighbours, and looks into no more lists, than this.
MOST = 2048
# Bytes that a search works in; FAISS would take 1.5 GiB for itself.
WORKING_MEMORY = 256 << 20

TRIAL = """
import faiss, numpy
index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, faiss.IndexFlatIP(8))
index.add(numpy.eye(8, dtype="float32"))
assert index.search(numpy.eye(8, dtype="float32"), 1)[1][:, 0].tolist() == list(range(8))
"""
TRIAL_SECONDS = 120


def gpus() -> int:
    """Return how many GPUs this FAISS works on; 0 where it is not installed or knows none."""
    try:
        faiss = load_faiss()
    except MissingDependency:
        return 0
    # The build for GPUs can be there without any, and then its resources can be asked for, too.
    known = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    return known if known and works() else 0


@cache
def works() -> bool:
    """Say whether FAISS can search on the first GPU, as another process found."""
    asked = [sys.executable, "-c", TRIAL]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TRIAL_SECONDS)
        said = done.stderr.strip().splitlines()
    except subprocess.TimeoutExpired:
        done, said = None, [f"no answer in {TRIAL_SECONDS} s"]
    if done is not None and done.returncode == 0:
        return True
    reason = said[-1] if said else "it ended without a word"
    log.warning("FAISS knows this GPU and cannot work on it, so it stays on the CPU: %s", reason)
    return False


class OnGpu:
    """A copy of an index on the first GPU.

    One piece of working memory is shared by all of them, since a piece for each of many segments
    would fill the card.
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
    resources.setTempMemory(WORKING_MEMORY)
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
