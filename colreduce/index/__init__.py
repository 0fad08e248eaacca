"""The index: where all stages meet."""

from __future__ import annotations

from colreduce.index.index import Index
from colreduce.results import Document, Hit

__all__ = ["Document", "Hit", "Index"]
