"""Parquet: one file with a row per document."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from colreduce.export.arrow import batches, schema_of
from colreduce.export.base import Exporter
from colreduce.export.source import Source
from colreduce.store import fs


class Parquet(Exporter):
    """One Parquet file: id, metadata, text, vectors and a column for each first stage."""

    name: ClassVar[str] = "parquet"
    needs: ClassVar[str] = "pyarrow"

    def write(self, source: Source, place: Path) -> None:
        """Write a row group for every block of documents."""
        import pyarrow.parquet as pq

        self.load()
        sink = fs.Sink(place)
        try:
            with pq.ParquetWriter(sink.stream, schema_of(source), compression="zstd") as writer:
                for batch in batches(source):
                    writer.write_batch(batch)
            sink.finish()
        finally:
            sink.abandon()
