"""Exact late-interaction scores: the sum over query tokens of the best similarity in a document.

`maxsim` is the plain form over packed documents. Everything that is faster must equal it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def segment_max(similarities: Tensor, lengths: Tensor) -> Tensor:
    """Return the largest value of each document's run of columns.

    similarities [q, t]  float32, one column per document token
    lengths      [n]     int64, tokens per document; none is 0
    returns      [q, n]
    """
    queries, documents = similarities.shape[0], len(lengths)
    first = int(lengths[0]) if documents else 0
    if documents and bool((lengths == first).all()):
        return similarities.view(queries, documents, first).amax(2)
    owner = torch.repeat_interleave(torch.arange(documents, device=lengths.device), lengths)
    best = similarities.new_full((queries, documents), -torch.inf)
    return best.scatter_reduce_(1, owner.expand(queries, -1), similarities, "amax")


def maxsim(query: Tensor, tokens: Tensor, lengths: Tensor, block: int = 1 << 18) -> Tensor:
    """Score one query against packed documents.

    query   [q, d]  float32
    tokens  [t, d]  document vectors end to end; any float type, scored in float32
    lengths [n]     int64, tokens per document
    block           how many document tokens are scored at a time
    returns [n]     float32
    """
    scores = []
    ends = lengths.cumsum(0)
    start_item = start = 0
    while start_item < len(lengths):
        limit = torch.tensor(start + block, device=ends.device)
        end_item = max(int(torch.searchsorted(ends, limit, right=True)), start_item + 1)
        end = int(ends[end_item - 1])
        similarities = query.float() @ tokens[start:end].float().T
        scores.append(segment_max(similarities, lengths[start_item:end_item]).sum(0))
        start_item, start = end_item, end
    return torch.cat(scores) if scores else query.new_zeros(0, dtype=torch.float32)
