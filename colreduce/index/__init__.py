"""The index: where all stages meet."""

from __future__ import annotations

from colreduce.index.collections import Collections
from colreduce.index.index import Index
from colreduce.index.queue import WriteQueue, Written
from colreduce.results import Document, Hit

__all__ = ["Collections", "Document", "Hit", "Index", "WriteQueue", "Written"]
