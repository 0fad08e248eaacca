"""What a collection asks and what counts as an answer, read once; no vectors yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colreduce.embed.pages import recorded_page
from colreduce.errors import BadData
from colreduce.evaluate.beir import BeirFolder, Qrels, check_judged


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged queries and the documents they are asked of.

    queries    the text of every judged query, None where only its vectors are known
    documents  the ids of all documents, in the corpus' order
    digest     the sha256 of all that an evaluation depends on: ids, texts, grades, vectors
    group      the collection that this one is a part of, such as cqadupstack
    folder     where the texts are, None when there are only vectors
    """

    name: str
    split: str
    qrels: Qrels
    queries: dict[str, str | None]
    documents: list[str]
    text_bytes: int
    digest: str
    path: Path
    group: str = ""
    folder: BeirFolder | None = None
    vectors: Path | None = None
    _known: dict[str, str] = field(default_factory=dict, compare=False)

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the texts of some documents, reading the corpus again for new ones."""
        if self.folder is None:
            return {}
        wanted = set(ids)
        missing = wanted - self._known.keys()
        if missing:
            for record in self.folder.corpus():
                if record.id in missing:
                    self._known[record.id] = record.text
        return {name: self._known[name] for name in wanted if name in self._known}


def read_judged(
    folder: BeirFolder, split: str, *, vectors: Path | None = None, group: str = ""
) -> Judged:
    """Read a folder's queries, judgements and document ids; everything judged must be there.

    vectors  a file with the vectors of the folder's texts
    """
    if not folder.path.exists():
        raise BadData(f"there is no file or folder {folder.path}")
    qrels, texts = folder.qrels(split), folder.queries()
    digest, ids, size = Digest(), [], 0
    within = folder.corpus_files()[0].parent
    for record in folder.corpus():
        ids.append(record.id)
        size += len(record.text.encode("utf-8", "surrogatepass"))
        digest.add(record.id, record.text)
        page = recorded_page(record.metadata, within)
        if page is not None:
            digest.add(page.digest())
    check_judged(qrels, folder.qrels_path(split), set(texts), set(ids))
    asked: dict[str, str | None] = {name: texts[name] for name in texts if name in qrels}
    digest.add("queries", *(part for name in asked for part in (name, str(asked[name]))))
    digest.judgements(qrels)
    if vectors is not None:
        digest.file(vectors)
    name = f"{group}/{folder.name}" if group else folder.name
    return Judged(
        name, split, qrels, asked, ids, size, digest.hex, folder.path, group, folder, vectors
    )


def read_judged_vectors(path: Path) -> Judged:
    """Read what a file of vectors holds beside them: ids, queries and judgements."""
    from colreduce.embed.precomputed import judgements, query_vectors, vector_batches

    qrels = judgements(path)
    ids = [name for batch in vector_batches(path) for name in batch.ids]
    names, _ = query_vectors(path)
    check_judged(qrels, path, set(names), set(ids))
    digest = Digest()
    digest.file(path)
    asked: dict[str, str | None] = {name: None for name in names if name in qrels}
    return Judged(path.stem, "", qrels, asked, ids, 0, digest.hex, path, vectors=path)


def parts_of(path: Path, **files: Any) -> Iterator[tuple[BeirFolder, str]]:
    """Yield the collections at a path, each with the name of its group.

    A folder without a corpus whose folders have one each is a group, as CQADupStack's forums are.
    """
    if path.is_dir() and not BeirFolder.is_one(path):
        inside = sorted(one for one in path.iterdir() if one.is_dir() and BeirFolder.is_one(one))
        for one in inside:
            yield BeirFolder(one, **files), path.resolve().name
        if inside:
            return
    yield BeirFolder(path, **files), ""


class Digest:
    """A sha256 of strings, each with its length, so that no two lists of them are the same."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    @property
    def hex(self) -> str:
        """Return the digest so far."""
        return self._sum.hexdigest()

    def add(self, *texts: str) -> None:
        """Take in some strings."""
        for text in texts:
            raw = text.encode("utf-8", "surrogatepass")
            self._sum.update(len(raw).to_bytes(8, "little"))
            self._sum.update(raw)

    def judgements(self, qrels: Qrels) -> None:
        """Take in grades, in an order of their own."""
        for query in sorted(qrels):
            for document, grade in sorted(qrels[query].items()):
                self.add(query, document, str(grade))

    def file(self, path: Path) -> None:
        """Take in a file's bytes."""
        try:
            with path.open("rb") as file:
                self.add(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise BadData(f"cannot read {path}: {error.strerror or error}") from error
