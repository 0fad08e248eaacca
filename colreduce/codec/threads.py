"""Work in small steps, such as k-means for codebooks, done by one thread.

Many threads that meet after every small step wait for each other; beside other programs on the
same cores they wait forty times as long as one thread works.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
