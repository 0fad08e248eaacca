"""Documents from tables: Parquet files, and data sets of the Hugging Face hub.

A row is a record as a line of JSONL is: ``_id`` or ``id``, ``text`` and ``title``, ``metadata`` as
an object or as JSON. A table of vectors has a column ``vectors``, a list of vectors for each row,
as `colreduce export --to parquet` writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from colreduce.errors import BadData, MissingDependency
from colreduce.evaluate.records import record_from
from colreduce.ragged import Ragged
from colreduce_indexer.sources.base import TOGETHER, Bad, Batch, Documents, texts_batch
from colreduce_indexer.sources.lines import states
from colreduce_indexer.sources.vectors import vectors_batch

VECTORS = "vectors"
COLUMNS = ("_id", "id", "corpus-id", "text", "title", "metadata", VECTORS)
SUFFIX = ".parquet"

# OWNER/NAME, then perhaps a subset and a split.
_HUB_NAME = re.compile(r"([\w-]+/[\w.-]+)(?::([\w. -]+))?(?::([\w. -]+))?")


@dataclass(frozen=True)
class Parquet:
    """Parquet files, one after the other; row groups that are not wanted are not read."""

    name: str
    files: Sequence[Path]
    vectors: bool

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Read the files, some rows at a time."""
        number = 0
        for file in self.files:
            with _opened(file) as table:
                known = [one for one in COLUMNS if one in table.schema_arrow.names]
                groups: list[int] = []
                for group in range(table.num_row_groups):
                    rows = table.metadata.row_group(group).num_rows
                    if not groups and number + rows <= start:
                        number += rows
                    else:
                        groups.append(group)
                batches = table.iter_batches(TOGETHER, row_groups=groups, columns=known)
                for batch in batches if groups else ():
                    rows = _rows(batch)[max(start - number, 0) :]
                    first = number + batch.num_rows - len(rows)
                    number += batch.num_rows
                    if rows:
                        yield _batch(rows, first, str(file), self.vectors)

    def state(self) -> list[list[Any]] | None:
        """Return the size and the time of every file."""
        return states(self.files)


@dataclass(frozen=True)
class Hub:
    """A data set of the Hugging Face hub, read as a stream and not downloaded before."""

    name: str
    vectors: bool
    repository: str
    subset: str | None = None
    split: str | None = None

    def read(self, start: int = 0) -> Iterator[Batch]:
        """Read rows as they come."""
        rows = iter(self._stream().skip(start))
        number = start
        while some := list(islice(rows, TOGETHER)):
            yield _batch(some, number, self.name, self.vectors)
            number += len(some)

    def state(self) -> list[list[Any]] | None:
        """Return the revision that the hub has of it."""
        try:
            from huggingface_hub import HfApi

            return [[self.name, HfApi().dataset_info(self.repository).sha]]
        except (ImportError, OSError, ValueError, RuntimeError):
            return None

    def _stream(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise MissingDependency(
                f"there is no file or folder {self.name}. A data set of the Hugging Face hub is "
                "read with the package datasets: pip install 'colreduce[hub]'"
            ) from error
        try:
            subsets = datasets.get_dataset_config_names(self.repository)
            subset = _chosen(self.subset, subsets, ("corpus", "default"), self.repository)
            splits = datasets.get_dataset_split_names(self.repository, subset)
            split = _chosen(self.split, splits, ("corpus", "train"), f"{self.repository}:{subset}")
            return datasets.load_dataset(self.repository, subset, split=split, streaming=True)
        except BadData:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise BadData(
                f"there is no file or folder {self.name}, and the Hugging Face hub has no such "
                f"data set or cannot be reached: {error}"
            ) from error


def hub_source(name: str, *, vectors: bool) -> Hub | None:
    """Return a data set of the hub if a name can be one: OWNER/NAME[:SUBSET[:SPLIT]]."""
    found = _HUB_NAME.fullmatch(name)
    if found is None or Path(found[1]).suffix in (".gz", ".jsonl", ".json", ".npz", SUFFIX):
        return None
    return Hub(name, vectors, found[1], found[2], found[3])


def _chosen(asked: str | None, there: Sequence[str], usual: Sequence[str], where: str) -> str:
    if asked is not None and asked in there:
        return asked
    if asked is None:
        if len(there) == 1:
            return there[0]
        if found := [one for one in usual if one in there]:
            return found[0]
    raise BadData(
        f"{where} has {', '.join(sorted(there))}; name one behind a colon, as in "
        f"{where}:{sorted(there)[0]}"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependency(
            f"{path} is read with the package pyarrow: pip install 'colreduce[export]'"
        ) from error
    try:
        with pq.ParquetFile(path) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        raise BadData(f"{path} cannot be read: {error}") from error


def _rows(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of an Arrow batch; vectors as arrays, which saves most of the time."""
    if VECTORS not in batch.schema.names:
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows
    rows = batch.drop_columns([VECTORS]).to_pylist()
    column = batch.column(VECTORS)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    inner = column.flatten()
    widths = np.unique(inner.value_lengths().to_numpy(zero_copy_only=False))
    values = inner.flatten()
    if column.null_count or inner.null_count or values.null_count or len(widths) != 1:
        matrices = column.to_pylist()  # something is wrong with some of them
    else:
        flat = values.to_numpy(zero_copy_only=False).astype(np.float32)
        matrices = np.split(flat.reshape(-1, int(widths[0])), np.cumsum(lengths)[:-1])
    return [{**row, VECTORS: matrix} for row, matrix in zip(rows, matrices, strict=True)]


def _batch(rows: Sequence[Mapping[str, Any]], first: int, name: str, vectors: bool) -> Batch:
    """Make a batch of rows, of which the first has a number."""
    read = [(first + at, f"{name} row {first + at + 1}", row) for at, row in enumerate(rows)]
    if not vectors:
        return texts_batch((number, place, _record(row)) for number, place, row in read)
    found = [(number, place, _with_vectors(row)) for number, place, row in read]
    bad = [Bad(number, place, one) for number, place, one in found if isinstance(one, str)]
    good = [(number, place, *one) for number, place, one in found if not isinstance(one, str)]
    if not good:
        return Batch(Documents([], [], []), bad)
    numbers, places, ids, matrices, texts, told = zip(*good, strict=True)
    widths = {matrix.shape[1] for matrix in matrices}
    if len(widths) > 1:
        raise BadData(f"{name}: its vectors are {' and '.join(map(str, sorted(widths)))} wide")
    lengths = torch.tensor([len(matrix) for matrix in matrices])
    known = None if all(text is None for text in texts) else [text or "" for text in texts]
    batch = vectors_batch(
        ids, Ragged(torch.cat(matrices), lengths), numbers, places, known, list(told)
    )
    return Batch(batch.documents, [*bad, *batch.bad])


def _record(row: Mapping[str, Any]) -> Any:
    """Return a row as a record, or what is wrong with it."""
    told = row.get("metadata")
    try:
        told = json.loads(told) if isinstance(told, str) and told else told
        name = row.get("_id", row.get("id", row.get("corpus-id")))
        return record_from({**row, "_id": name, "metadata": dict(told or {})}, "")
    except BadData as error:
        return str(error).removeprefix(": ")
    except (TypeError, ValueError) as error:
        return f"its metadata is no object ({error})"


def _with_vectors(row: Mapping[str, Any]) -> Any:
    """Return id, vectors, text and metadata of a row, or what is wrong with it."""
    text = row.get("text")
    record = _record({**row, "text": text or ""})
    if isinstance(record, str):
        return record
    try:
        given = row.get(VECTORS)
        matrix = torch.from_numpy(np.array([] if given is None else given, np.float32))
    except (TypeError, ValueError):
        matrix = torch.empty(0)
    if matrix.ndim != 2 or not matrix.numel():
        return f"the record {record.id!r} has no 'vectors' that are a list of vectors"
    return record.id, matrix, text, record.metadata
