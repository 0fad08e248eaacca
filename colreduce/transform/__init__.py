"""Transforms: maps of single vectors, applied to documents and queries alike."""

from __future__ import annotations

from colreduce.transform.base import Transform
from colreduce.transform.pca import Pca

TRANSFORMS: dict[str, type[Transform]] = {
    "pca": Pca,
}
