"""Leaving: what an index holds, written in the formats of others.

One format is one file here and one row in `EXPORTERS`.
"""

from __future__ import annotations

from colreduce.export.base import Exported, Exporter
from colreduce.export.lancedb import LanceDb
from colreduce.export.parquet import Parquet
from colreduce.export.qdrant import Qdrant
from colreduce.export.run import export_index
from colreduce.export.safetensors import Safetensors
from colreduce.export.source import query_vectors
from colreduce.export.vespa import Vespa

EXPORTERS: dict[str, Exporter] = {
    "parquet": Parquet(),
    "safetensors": Safetensors(),
    "qdrant": Qdrant(),
    "lancedb": LanceDb(),
    "vespa": Vespa(),
}

__all__ = ["EXPORTERS", "Exported", "Exporter", "export_index", "query_vectors"]
