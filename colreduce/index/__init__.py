"""The index: where all stages meet."""

from __future__ import annotations

from colreduce.index.index import Document, Index
from colreduce.index.search import Hit

__all__ = ["Document", "Hit", "Index"]
