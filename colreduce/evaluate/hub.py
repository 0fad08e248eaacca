"""Public data sets by name: `nanobeir/SciFact`, `beir/scifact`, `vidore/esg_reports_v2`.

They are read once from the Hugging Face hub, through its library `datasets`, and kept as a folder
in BEIR's layout, which is what everything else here reads. Of a page its picture is kept, too, in
``images/``, for an encoder of pages.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colreduce.choose import hint
from colreduce.errors import BadData, MissingDependency, UnknownName
from colreduce.evaluate.progress import Progress, cache_folder, silent

NANO = (
    "ArguAna", "ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus",
    "NQ", "QuoraRetrieval", "SCIDOCS", "SciFact", "Touche2020",
)  # fmt: skip
BEIR = (
    "arguana", "climate-fever", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "msmarco",
    "nfcorpus", "nq", "quora", "scidocs", "scifact", "trec-covid", "webis-touche2020",
)  # fmt: skip
VIDORE = (
    "biomedical_lectures_v2", "economics_reports_v2", "esg_reports_human_labeled_v2",
    "esg_reports_v2", "arxivqa_test_subsampled_beir", "docvqa_test_subsampled_beir",
    "infovqa_test_subsampled_beir", "shiftproject_test_beir",
    "syntheticDocQA_artificial_intelligence_test_beir", "syntheticDocQA_energy_test_beir",
    "syntheticDocQA_government_reports_test_beir", "syntheticDocQA_healthcare_industry_test_beir",
    "tabfquad_test_subsampled_beir", "tatdqa_test_beir",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the three tables of a data set are: repository, configuration and split of each."""

    corpus: tuple[str, str, str]
    queries: tuple[str, str, str]
    qrels: tuple[str, str, str]


def _nano(name: str) -> _Place:
    repository, split = "sentence-transformers/NanoBEIR-en", f"Nano{name}"
    return _Place(
        (repository, "corpus", split), (repository, "queries", split), (repository, "qrels", split)
    )


def _beir(name: str) -> _Place:
    repository = f"BeIR/{name}"
    split = "validation" if name == "msmarco" else "test"
    return _Place(
        (repository, "corpus", "corpus"),
        (repository, "queries", "queries"),
        (f"{repository}-qrels", "default", split),
    )


def _vidore(name: str) -> _Place:
    repository = f"vidore/{name}"
    return _Place(
        (repository, "corpus", "test"),
        (repository, "queries", "test"),
        (repository, "qrels", "test"),
    )


GROUPS: Mapping[str, tuple[tuple[str, ...], Callable[[str], _Place]]] = {
    "nanobeir": (NANO, _nano),
    "beir": (BEIR, _beir),
    "vidore": (VIDORE, _vidore),
}

# Reads a table: repository, configuration, split.
Reader = Callable[[str, str, str], Iterable[Mapping[str, Any]]]


def is_name(source: Path) -> bool:
    """Say whether this names a public data set, and no file or folder here."""
    parts = source.parts
    return not source.exists() and len(parts) == 2 and parts[0] in GROUPS


def fetched(source: Path, read: Reader | None = None, progress: Progress = silent) -> Path:
    """Return the folder of a data set, reading it from the hub the first time."""
    group, name = source.parts
    names, place = GROUPS[group]
    known = {one.lower(): one for one in names}
    if name.lower() not in known:
        raise UnknownName(f"{group} has no data set {name!r}.{hint(name, names)}")
    proper = known[name.lower()]
    folder = cache_folder() / "datasets" / group / proper
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        working = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
        try:
            _write(working, place(proper), read or _from_hub, progress)
            working.rename(folder)
        except BaseException as problem:
            shutil.rmtree(working)
            if not (isinstance(problem, OSError) and folder.is_dir()):  # another was faster
                raise
    return folder


def _from_hub(repository: str, configuration: str, split: str) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(
            "data sets by name are read with `datasets`; install it with: "
            "pip install 'colreduce[hub]'"
        ) from error
    try:
        table: Iterable[Mapping[str, Any]] = datasets.load_dataset(
            repository, configuration, split=split
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadData(
            f"{repository} ({configuration}, {split}) cannot be read from the Hugging Face hub: "
            f"{error}. Without a network, give a folder in BEIR's layout."
        ) from error
    return table


def _write(folder: Path, place: _Place, read: Reader, progress: Progress) -> None:
    """Write the three tables as files in BEIR's layout."""
    (folder / "qrels").mkdir()
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for number, row in enumerate(read(*place.corpus), start=1):
            file.write(json.dumps(_document(row, folder), ensure_ascii=False) + "\n")
            progress("read", number, 0)
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as file:
        for row in read(*place.queries):
            one = {"_id": _id(row, "query-id"), "text": row.get("text") or row.get("query") or ""}
            file.write(json.dumps(one, ensure_ascii=False) + "\n")
    with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for row in read(*place.qrels):
            found = row["corpus-id"]
            for document in found if isinstance(found, list) else [found]:
                file.write(f"{row['query-id']}\t{document}\t{int(row.get('score', 1))}\n")


def _document(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    one: dict[str, Any] = {"_id": _id(row, "corpus-id"), "title": row.get("title") or ""}
    one["text"] = row.get("text") or ""
    picture = row.get("image")
    if picture is not None:
        # An id may hold what a file's name cannot.
        name = f"images/{re.sub(r'[^A-Za-z0-9_.-]', '_', one['_id'])}.png"
        (folder / "images").mkdir(exist_ok=True)
        if (folder / name).exists():
            raise BadData(f"two pages would be kept as {name}")
        picture.save(folder / name)
        one["metadata"] = {"image": name}
    return one


def _id(row: Mapping[str, Any], column: str) -> str:
    name = row.get("_id", row.get(column))
    if name is None:
        raise BadData(f"a row has neither '_id' nor {column!r}: it has {', '.join(row)}")
    return str(name)
