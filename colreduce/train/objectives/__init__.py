"""Objectives: what a model can be taught, one table."""

from __future__ import annotations

from colreduce.train.objectives.base import About, Encoded, Objective
from colreduce.train.objectives.distill import Distill
from colreduce.train.objectives.projection import Projection
from colreduce.train.objectives.reducing import Attention, Constant, Crisp, Words
from colreduce.train.objectives.scoring import ColBert, Xtr
from colreduce.train.objectives.views import Matryoshka, Nested

OBJECTIVES: dict[str, type[Objective]] = {
    "attention": Attention,
    "colbert": ColBert,
    "constant": Constant,
    "crisp": Crisp,
    "distill": Distill,
    "matryoshka": Matryoshka,
    "nested": Nested,
    "projection": Projection,
    "words": Words,
    "xtr": Xtr,
}

__all__ = ["OBJECTIVES", "About", "Encoded", "Objective"]
