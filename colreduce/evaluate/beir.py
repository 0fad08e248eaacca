"""Collections in BEIR's layout: documents, queries and graded judgements in one folder.

    corpus.jsonl[.gz]     queries.jsonl[.gz]     qrels/SPLIT.tsv[.gz]

The corpus is read as a stream, as often as it is needed. Nothing is repaired in silence: whatever
does not fit is a `BadData` that names the file and the line or the id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from colreduce.choose import hint
from colreduce.errors import BadData, UnknownName
from colreduce.evaluate.records import Record, numbered_lines, records

Qrels: TypeAlias = dict[str, dict[str, int]]

HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """A folder in BEIR's layout. Nothing is read before it is asked for."""

    path: Path

    @property
    def name(self) -> str:
        """Return the folder's name, which is the dataset's."""
        return self.path.resolve().name

    @staticmethod
    def is_one(path: Path) -> bool:
        """Say whether a folder holds a corpus in this layout."""
        return any((path / f"corpus.jsonl{packed}").is_file() for packed in ("", ".gz"))

    def corpus(self) -> Iterator[Record]:
        """Yield the documents in the file's order."""
        path = _packed_or_not(self.path / "corpus.jsonl")
        empty = True
        for record in records(path):
            empty = False
            yield record
        if empty:
            raise BadData(f"{path}: the corpus is empty")

    def queries(self) -> dict[str, str]:
        """Return the text of every query."""
        path = _packed_or_not(self.path / "queries.jsonl")
        found = {record.id: record.text for record in records(path)}
        if not found:
            raise BadData(f"{path}: there are no queries")
        for name, text in found.items():
            if not text:
                raise BadData(f"{path}: the query {name!r} is empty")
        return found

    def splits(self) -> list[str]:
        """Return the names of the sets of judgements."""
        files = (self.path / "qrels").glob("*.tsv*")
        return sorted({file.name.split(".tsv")[0] for file in files})

    def qrels_path(self, split: str) -> Path:
        """Return the file of a set of judgements."""
        if split not in self.splits():
            where = self.path / "qrels"
            raise UnknownName(
                f"{where} has no judgements called {split!r}.{hint(split, self.splits())}"
            )
        return _packed_or_not(self.path / "qrels" / f"{split}.tsv")

    def qrels(self, split: str = "test") -> Qrels:
        """Return the grades of the judged documents of every judged query."""
        return read_qrels(self.qrels_path(split))


def read_qrels(path: Path) -> Qrels:
    """Read judgements: a header line, then query, document and grade between tabs.

    Only tabs part the columns: ids may hold spaces.
    """
    lines = numbered_lines(path)
    number, header = next(lines, (1, ""))
    if header.split("\t") != HEADER:
        raise BadData(
            f"{path} line {number}: wanted the header {'<tab>'.join(HEADER)}, got {header!r}"
        )
    grades: Qrels = {}
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != 3 or not columns[0] or not columns[1]:
            raise BadData(f"{path} line {number}: wanted query, document and grade between tabs")
        query, document, grade = columns
        if document in grades.setdefault(query, {}):
            raise BadData(
                f"{path} line {number}: the document {document!r} is judged twice "
                f"for the query {query!r}"
            )
        grades[query][document] = _grade(grade, f"{path} line {number}")
    if not grades:
        raise BadData(f"{path}: there are no judgements")
    return grades


def _grade(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise BadData(f"{where}: the grade {text!r} is not a whole number") from error


def check_judged(qrels: Qrels, path: Path, queries: set[str], documents: set[str]) -> None:
    """Make sure that everything that is judged exists."""
    for query, grades in qrels.items():
        if query not in queries:
            raise BadData(f"{path}: the judged query {query!r} is not among the queries")
        for document in grades:
            if document not in documents:
                raise BadData(
                    f"{path}: the document {document!r}, judged for the query {query!r}, "
                    "is not in the corpus"
                )


def _packed_or_not(path: Path) -> Path:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise BadData(f"there is neither {path} nor {path.name}.gz")
