"""Loading what searches run before anybody waits for it."""

from __future__ import annotations

import numpy as np
import torch

from colreduce.candidates.vectors.flat import FlatSearcher
from colreduce.maxsim import WORTH_COMPILING, segment_max
from colreduce.maxsim.rows import RowScorer
from colreduce.native import has_numba


def warm() -> None:
    """Load native code, or compile it where that was never done: then it takes seconds."""
    if not has_numba():
        return
    one, row = torch.ones(1, 8), np.zeros(1, np.int64)
    scales = torch.ones(1, dtype=torch.float16)
    for dtype in (torch.float32, torch.float16, torch.int8):
        stored = one.to(dtype)
        steps = scales if dtype == torch.int8 else None
        RowScorer(stored, steps, np.array([0, 1])).scores(one, row)
        FlatSearcher(stored.numpy()).search(one.numpy(), 1, None)
    lengths = torch.tensor([1, WORTH_COMPILING - 1])
    segment_max(torch.ones(WORTH_COMPILING, 1).T, lengths)
