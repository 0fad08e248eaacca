"""What an index can be built from: documents or vectors, streamed and never held whole."""

from __future__ import annotations

from pathlib import Path

from colreduce.embed.precomputed import SUFFIXES
from colreduce.errors import BadData
from colreduce.evaluate import hub
from colreduce.evaluate.beir import BeirFolder
from colreduce_indexer.sources.base import Bad, Batch, Documents, Source
from colreduce_indexer.sources.lines import Texts
from colreduce_indexer.sources.tables import SUFFIX, Parquet, hub_source
from colreduce_indexer.sources.vectors import Vectors

__all__ = ["Bad", "Batch", "Documents", "Source", "open_source"]


def open_source(given: Path | str, *, vectors: bool) -> Source:
    """Find out what a name stands for: a file, a folder, or a data set of the hub.

    vectors  it holds vectors, and nothing is encoded
    """
    path = Path(given)
    name = str(given)
    if hub.is_name(path):  # one that `colreduce evaluate` knows by name, too
        path = hub.fetched(path)
    if not path.exists():
        stream = hub_source(name, vectors=vectors)
        if stream is None:
            raise BadData(f"there is no file or folder {path}")
        return stream
    tables = [path] if path.suffix == SUFFIX else sorted(path.glob(f"*{SUFFIX}"))
    if tables and not BeirFolder.is_one(path):
        return Parquet(name, tables, vectors)
    if vectors:
        return Vectors(name, path)
    if path.is_dir():
        if not BeirFolder.is_one(path):
            holds_vectors = any(file.suffix in SUFFIXES for file in path.iterdir())
            advice = " It holds vectors: name --vectors." if holds_vectors else ""
            raise BadData(
                f"{path} is no folder in BEIR's layout: there is no corpus.jsonl in it.{advice}"
            )
        return Texts(name, BeirFolder(path).corpus_files())
    if path.suffix in SUFFIXES:
        raise BadData(f"{path} holds vectors: name --vectors to index them")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadData(
            f"{path}: wanted a .jsonl file, packed or not, a .parquet file, or a folder in BEIR's "
            "layout"
        )
    return Texts(name, [path])
