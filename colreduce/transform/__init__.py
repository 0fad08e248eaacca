"""Transforms: maps of single vectors, applied to documents and queries alike."""

from __future__ import annotations

from colreduce.transform.base import Transform
from colreduce.transform.center import Center
from colreduce.transform.pca import Pca
from colreduce.transform.rotate import Rotate
from colreduce.transform.truncate import Truncate

TRANSFORMS: dict[str, type[Transform]] = {
    "pca": Pca,
    "truncate": Truncate,
    "center": Center,
    "rotate": Rotate,
}
