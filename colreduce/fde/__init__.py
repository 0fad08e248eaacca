"""Fixed dimensional encodings: a set of vectors becomes one vector (MUVERA)."""

from __future__ import annotations

from colreduce.fde.config import FdeConfig
from colreduce.fde.encode import document_blocks, draw, encode_documents, encode_queries

__all__ = ["FdeConfig", "document_blocks", "draw", "encode_documents", "encode_queries"]
