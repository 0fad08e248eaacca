"""Collections on disk: documents, queries and graded judgements, as BEIR or TREC keep them.

    corpus.jsonl[.gz]     queries.jsonl[.gz]     qrels/SPLIT.tsv[.gz]

is BEIR's layout. TREC's names are known beside it (`CORPUS`, `QUERIES`, `QRELS`); how a file is
written is told from its first line and not from its name. The corpus is read as a stream, as often
as it is needed. Nothing is repaired in silence: whatever does not fit is a `BadData` that names the
file and the line or the id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from colreduce.choose import hint
from colreduce.embed.pages import Page, recorded_page
from colreduce.errors import BadData, UnknownName
from colreduce.evaluate import trec
from colreduce.evaluate.records import Record, numbered_lines, records

Qrels: TypeAlias = dict[str, dict[str, int]]

HEADER = ["query-id", "corpus-id", "score"]

# Names that are looked for, the first one that is there counts; each also with .gz behind it.
CORPUS = ("corpus.jsonl", "corpus.tsv", "collection.tsv", "corpus.trec", "corpus.txt")
QUERIES = ("queries.jsonl", "queries.tsv", "topics.tsv", "topics.trec", "topics.txt", "topics.xml")
QRELS = ("qrels/{}.tsv", "qrels/{}.txt", "qrels/{}.qrels", "qrels.{}.tsv", "qrels.{}.txt")
# Judgements that belong to no split by name are those of `test`.
UNSPLIT = ("qrels.txt", "qrels.tsv", "qrels.qrels")


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """A folder in BEIR's layout or with TREC's files. Nothing is read before it is asked for.

    path    the folder, or a file or folder that holds the documents alone
    topics  the file of the queries, where it is not in the folder
    judged  the file of the judgements, where it is not in the folder; it stands for every split
    """

    path: Path
    topics: Path | None = None
    judged: Path | None = None

    @property
    def name(self) -> str:
        """Return the folder's name, which is the dataset's."""
        return self.path.resolve().name

    @staticmethod
    def is_one(path: Path) -> bool:
        """Say whether a folder holds a corpus."""
        return _first(path, CORPUS) is not None or (path / "corpus").is_dir()

    def corpus(self) -> Iterator[Record]:
        """Yield the documents in the file's order."""
        files = self.corpus_files()
        seen: dict[str, Path] = {}
        for file in files:
            for record in read_documents(file):
                if len(files) > 1 and seen.setdefault(record.id, file) != file:
                    raise BadData(f"{file}: the id {record.id!r} was in {seen[record.id]} already")
                seen[record.id] = file
                yield record
        if not seen:
            raise BadData(f"{files[0]}: the corpus is empty")

    def corpus_files(self) -> list[Path]:
        """Return the files that hold the documents, in their order."""
        if self.path.is_file():
            return [self.path]
        single = _first(self.path, CORPUS)
        if single is not None:
            return [single]
        inside = self.path / "corpus"
        if inside.is_dir() and (found := sorted(p for p in inside.rglob("*") if p.is_file())):
            return found
        raise BadData(_nowhere(self.path, CORPUS))

    def pages(self) -> Iterator[Page]:
        """Yield the pages that the documents are, as their metadata names them (``image``)."""
        folder = self.corpus_files()[0].parent
        for record in self.corpus():
            page = recorded_page(record.metadata, folder)
            if page is None:
                raise BadData(
                    f"{folder}: the document {record.id!r} is no page: wanted the name of a "
                    "picture or PDF in that folder as 'image' in its metadata"
                )
            yield page

    def queries(self) -> dict[str, str]:
        """Return the text of every query."""
        path = self.topics or _first(self.path, QUERIES)
        if path is None:
            raise BadData(_nowhere(self.path, QUERIES))
        found = read_queries(path)
        if not found:
            raise BadData(f"{path}: there are no queries")
        for name, text in found.items():
            if not text:
                raise BadData(f"{path}: the query {name!r} is empty")
        return found

    def splits(self) -> list[str]:
        """Return the names of the sets of judgements."""
        files = chain((self.path / "qrels").glob("*"), self.path.glob("qrels.*.t*"))
        names = (file.name.removeprefix("qrels.").split(".")[0] for file in files)
        unsplit = ["test"] if _first(self.path, UNSPLIT) else []
        return sorted({*(name for name in names if self._split_path(name)), *unsplit})

    def _split_path(self, split: str) -> Path | None:
        found = _first(self.path, tuple(name.format(split) for name in QRELS))
        return found or (_first(self.path, UNSPLIT) if split == "test" else None)

    def qrels_path(self, split: str) -> Path:
        """Return the file of a set of judgements."""
        path = self.judged or self._split_path(split)
        if path is None:
            where, there = self.path / "qrels", self.splits()
            raise UnknownName(f"{where} has no judgements called {split!r}.{hint(split, there)}")
        return path

    def qrels(self, split: str = "test") -> Qrels:
        """Return the grades of the judged documents of every judged query."""
        return read_qrels(self.qrels_path(split))


def read_documents(path: Path) -> Iterator[Record]:
    """Yield the documents of a JSONL file, of a table of ids and texts, or of TREC's markup."""
    beginning = _beginning(path)
    if beginning == "<":
        return trec.documents(path)
    return records(path) if beginning in ("{", "[", "") else trec.table(path)


def read_queries(path: Path) -> dict[str, str]:
    """Read queries from a JSONL file, from a table of ids and texts, or from TREC's topics."""
    if _beginning(path) == "<":
        return trec.topics(path)
    return {record.id: record.text for record in read_documents(path)}


def _beginning(path: Path) -> str:
    _, line = next(numbered_lines(path), (1, ""))
    return line.lstrip()[:1]


def read_qrels(path: Path) -> Qrels:
    """Read judgements, BEIR's (a header, then query, document and grade) or TREC's (no header).

    Only tabs part BEIR's columns: ids may hold spaces.
    """
    lines = numbered_lines(path)
    number, header = next(lines, (1, ""))
    if header.split("\t") == HEADER:
        judged = _beir_columns(lines, path)
    elif trec.looks_judged(header):
        judged = trec.judgements(chain([(number, header)], lines), path)
    else:
        raise BadData(
            f"{path} line {number}: wanted the header {'<tab>'.join(HEADER)}, or TREC's four "
            f"columns (query, 0, document, grade), got {header!r}"
        )
    grades: Qrels = {}
    for where, query, document, grade in judged:
        if document in grades.setdefault(query, {}):
            raise BadData(
                f"{where}: the document {document!r} is judged twice for the query {query!r}"
            )
        grades[query][document] = _grade(grade, where)
    if not grades:
        raise BadData(f"{path}: there are no judgements")
    return grades


def _beir_columns(
    lines: Iterator[tuple[int, str]], path: Path
) -> Iterator[tuple[str, str, str, str]]:
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != 3 or not columns[0] or not columns[1]:
            raise BadData(f"{path} line {number}: wanted query, document and grade between tabs")
        yield f"{path} line {number}", columns[0], columns[1], columns[2]


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


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first file of some names that is there, packed or not."""
    candidates = (folder / f"{name}{packed}" for name in names for packed in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _nowhere(folder: Path, names: tuple[str, ...]) -> str:
    return f"there is neither {folder / names[0]} nor {names[0]}.gz, nor {', '.join(names[1:])}"
