"""What an index can be built from: documents or vectors, streamed and never held whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from colreduce.embed import Encoder, reads_pages
from colreduce.embed.pages import MOST_PAGES, is_page_file, page_files
from colreduce.embed.precomputed import SUFFIXES
from colreduce.errors import BadData, BadInput
from colreduce.evaluate import hub
from colreduce.evaluate.beir import BeirFolder
from colreduce_indexer.sources.base import Bad, Batch, Documents, Source
from colreduce_indexer.sources.lines import Texts
from colreduce_indexer.sources.pages import Pages
from colreduce_indexer.sources.tables import SUFFIX, Parquet, hub_source
from colreduce_indexer.sources.vectors import Vectors

__all__ = ["Bad", "Batch", "Documents", "Source", "open_source", "suited"]


def open_source(given: Path | str, *, vectors: bool, most_pages: int = MOST_PAGES) -> Source:
    """Find out what a name stands for: a file, a folder, or a data set of the hub.

    vectors     it holds vectors, and nothing is encoded
    most_pages  a PDF of more pages is not used
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
            if files := page_files(path):
                return Pages(name, path, files, most_pages)
            holds_vectors = any(file.suffix in SUFFIXES for file in path.iterdir())
            advice = " It holds vectors: name --vectors." if holds_vectors else ""
            raise BadData(
                f"{path} is no folder in BEIR's layout: there is no corpus.jsonl in it. Nor is "
                f"there a PDF or a picture of a page.{advice}"
            )
        return Texts(name, BeirFolder(path).corpus_files())
    if is_page_file(path):
        return Pages(name, path.parent, [path], most_pages)
    if path.suffix in SUFFIXES:
        raise BadData(f"{path} holds vectors: name --vectors to index them")
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadData(
            f"{path}: wanted a .jsonl file, packed or not, a .parquet file, a PDF or picture of a "
            "page, or a folder in BEIR's layout or of pages"
        )
    return Texts(name, [path])


def suited(source: Source, encoder: Encoder | None) -> Source:
    """Return a source as an encoder reads it: an encoder of pages needs pages."""
    if encoder is None or not reads_pages(encoder) or isinstance(source, Pages):
        return source
    if isinstance(source, Texts):
        return replace(source, pages=True)
    raise BadInput(
        f"{encoder.identity['name']} reads pages as pictures, and {source.name} holds none. Give a "
        "folder of PDFs or pictures, or a folder in BEIR's layout whose documents name theirs.",
        field="source",
    )
