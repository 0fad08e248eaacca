"""Rerankers: the final order of the candidates."""

from __future__ import annotations

from colreduce.rerank.base import Reranker
from colreduce.rerank.maxsim import Maxsim
from colreduce.rerank.none import Unranked

RERANKERS: dict[str, type[Reranker]] = {
    "maxsim": Maxsim,
    "none": Unranked,
}
