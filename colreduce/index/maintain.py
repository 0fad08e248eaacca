"""Moving documents from several segments into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from colreduce.candidates.base import FirstStage
from colreduce.index.build import FIRST
from colreduce.index.search import View, parts_of
from colreduce.store import Segment, SegmentWriter


def merge_first_stages(
    view: View, moved: Sequence[tuple[Segment, NDArray[np.int64]]], writer: SegmentWriter
) -> None:
    """Let every first stage make its files of the new segment from those of the old ones."""
    if not moved:
        return
    for key, method in view.pipeline.recipe.keyed():
        if isinstance(method, FirstStage):
            old = [(parts_of(segment, key), rows) for segment, rows in moved]
            state = view.pipeline.states.get(key, {})
            for name, part in method.merge(old, state).items():
                full = f"{FIRST}{key}.{name}"
                if callable(part):
                    writer.blob(full, part)
                else:
                    writer.append(full, part)
