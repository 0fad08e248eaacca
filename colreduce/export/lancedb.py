"""LanceDB: a database folder with one table."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from colreduce.export.arrow import batches, schema_of
from colreduce.export.base import Exporter
from colreduce.export.source import Source

TABLE = "documents"


class LanceDb(Exporter):
    """A LanceDB folder whose table ``documents`` has a multivector column ``vectors``."""

    name: ClassVar[str] = "lancedb"
    needs: ClassVar[str] = "lancedb"

    def check(self, source: Source) -> list[str]:
        """LanceDB compares multivectors by cosine only: that is MaxSim for unit vectors alone."""
        if not source.unusual:
            return []
        return [
            f"LanceDB compares multivectors by cosine, and {source.unusual:,} of "
            f"{int(source.lengths.sum()):,} vectors are not of unit length: its scores differ "
            "from this index' where those vectors match."
        ]

    def write(self, source: Source, place: Path) -> None:
        """Let LanceDB write the table from a stream of record batches."""
        lancedb = self.load()
        database = lancedb.connect(str(place))
        database.create_table(TABLE, data=batches(source), schema=schema_of(source))
