"""Documents that are pages: a folder of PDFs and pictures, or one such file.

A document is one page. Its text is what the PDF itself holds for it, and its picture is drawn
later, when it is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colreduce.embed.pages import MOST_PAGES, PDF, PageFile
from colreduce.errors import BadData
from colreduce_indexer.sources.base import Batch, PageRecord, in_batches


@dataclass(frozen=True)
class Pages:
    """Files of pages, one after the other; every page is a record, and so is a file without any.

    root  the folder in which the files are named
    most  a file of more pages is not used
    """

    name: str
    root: Path
    files: Sequence[Path]
    most: int = MOST_PAGES
    vectors: bool = False

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Look at the pages; of files before ``start`` the pages are counted only."""
        return in_batches(self._records(start))

    def state(self) -> list[list[Any]] | None:
        """Return the size and the time of every file, and how many pages it may have."""
        known = [(self._named(file), file.stat()) for file in self.files]
        files: list[list[Any]] = [[name, told.st_size, told.st_mtime_ns] for name, told in known]
        return [["most pages", self.most], *files]

    def _records(self, start: int) -> Iterator[tuple[int, str, Any]]:
        number = 0
        for path in self.files:
            try:
                file = PageFile(path, self.most)
            except BadData as problem:
                if number >= start:
                    yield number, str(path), _reason(problem, path)
                number += 1
                continue
            with file:
                for page in range(max(1, 1 + start - number), file.count + 1):
                    record = self._record(file, path, page)
                    yield number + page - 1, f"{path} page {page}", record
                number += file.count

    def _record(self, file: PageFile, path: Path, page: int) -> PageRecord | str:
        """Return one page as a record, or what is wrong with it."""
        name = self._named(path)
        try:
            sheet = file.sheet(page)
        except BadData as problem:
            return _reason(problem, path)
        single = path.suffix.lower() != PDF and page == 1
        metadata = {"file": name, "page": page, "width": sheet.width, "height": sheet.height}
        return PageRecord(
            name if single else f"{name}#page={page}", sheet.text, metadata, sheet.page
        )

    def _named(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _reason(problem: BadData, path: Path) -> str:
    """Return what is wrong with a file or page without its name, which its place tells."""
    return str(problem).removeprefix(f"{path}").lstrip(": ")
