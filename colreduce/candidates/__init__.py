"""First stages: the few documents worth an exact score."""

from __future__ import annotations

from colreduce.candidates.base import FirstStage, Fusion
from colreduce.candidates.bm25 import Bm25
from colreduce.candidates.dense import Dense
from colreduce.candidates.exhaustive import Exhaustive
from colreduce.candidates.fde import Fde
from colreduce.candidates.fusion import Blend, Rrf
from colreduce.candidates.lemur import Lemur
from colreduce.candidates.mean import Mean
from colreduce.candidates.sparse import Sparse
from colreduce.candidates.tokens import Tokens

FIRST_STAGES: dict[str, type[FirstStage]] = {
    "bm25": Bm25,
    "dense": Dense,
    "exhaustive": Exhaustive,
    "fde": Fde,
    "lemur": Lemur,
    "mean": Mean,
    "sparse": Sparse,
    "tokens": Tokens,
}

FUSIONS: dict[str, type[Fusion]] = {
    "blend": Blend,
    "rrf": Rrf,
}
