"""Run a native function once per document, several documents at a time.

For the algorithms that cannot be batched (hierarchical clustering): the function is expected to
release the GIL while it works.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.ragged import Ragged

PerDocument = Callable[[NDArray[np.float32], int], NDArray[np.int64]]


def label_each(batch: Ragged, sizes: Tensor, label: PerDocument) -> Tensor:
    """Call ``label(vectors [t, d], size)`` for each document; join the labels: [t] int64."""
    vectors = batch.tokens.detach().float().cpu().numpy()
    ends = batch.lengths.cumsum(0).tolist()
    bounds = list(zip([0, *ends[:-1]], ends, sizes.tolist(), strict=True))
    labels = np.empty(len(vectors), dtype=np.int64)

    def run(bound: tuple[Any, ...]) -> None:
        start, end, size = bound
        labels[start:end] = label(vectors[start:end], size)

    workers = min(torch.get_num_threads(), len(bounds))
    if workers < 2:
        for bound in bounds:
            run(bound)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, bounds))
    return torch.from_numpy(labels).to(batch.device)
