"""Bytes on disk: immutable segments, numbered sealed manifests, one writer, frozen snapshots.

This is the only package that writes files of an index, and `fs` is the only module in it that does.
"""

from __future__ import annotations

from colreduce.store.compact import Moved, Rewrite
from colreduce.store.segment import Segment
from colreduce.store.snapshot import Snapshot
from colreduce.store.staging import Staging, Unfinished, unfinished
from colreduce.store.store import Store
from colreduce.store.verify import Report, verify
from colreduce.store.workshop import Workshop, taken_along
from colreduce.store.writer import SegmentWriter

__all__ = [
    "Moved",
    "Report",
    "Rewrite",
    "Segment",
    "SegmentWriter",
    "Snapshot",
    "Staging",
    "Store",
    "Unfinished",
    "Workshop",
    "taken_along",
    "unfinished",
    "verify",
]
