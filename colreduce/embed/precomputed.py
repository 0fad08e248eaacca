"""Vectors that somebody else made, read from ``.npz``, ``.npy`` and ``.safetensors`` files.

No file is ever unpickled, and no array is allocated before its header was compared with the bytes
that are really there. Two layouts are known, in one file or in a folder of files:

* ``doc_ids`` [n], ``doclens`` [n], ``doc_vectors`` [t, d]: all documents end to end, with whatever
  of ``token_ids``, ``word_ids``, ``special`` and ``importance`` [t] there is;
* one array ``[t, d]`` per document under its id; for pages also ``grid_rows``, ``grid_cols`` [n].

In safetensors files ``doc_ids`` is a JSON list in the file's metadata.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.errors import BadData
from colreduce.ragged import Ragged

SUFFIXES = (".npz", ".safetensors")
LAYOUT = ("doclens", "doc_vectors")
PER_TOKEN = ("token_ids", "word_ids", "special", "importance")


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Some documents of a file, in the file's order."""

    ids: list[str]
    vectors: Ragged


def vector_files(path: Path) -> list[Path]:
    """Return the files of vectors at a path: the file itself, or those of a folder by name."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files or not all(file.is_file() and file.suffix in SUFFIXES for file in files):
        raise BadData(f"{path}: wanted a {' or '.join(SUFFIXES)} file, or a folder of such files")
    return files


def vector_batches(
    path: Path, documents: int = 512, *, checked: bool = True
) -> Iterator[VectorBatch]:
    """Yield the documents of a file or folder, ``documents`` at a time.

    checked  make sure that ids never repeat, for which all of them are remembered, and that all
             values are finite
    """
    seen: dict[str, Path] = {}
    width = count = 0
    for file in vector_files(path):
        with _opened(file) as arrays:
            wide = arrays.names.keys() >= set(LAYOUT)
            if not wide and "doclens" in arrays.names:
                raise BadData(f"{file}: holds doclens but no doc_vectors")
            for batch in (_packed if wide else _one_by_one)(arrays, documents):
                for name in batch.ids if checked else ():
                    if name in seen:
                        raise BadData(f"{file}: the id {name!r} was in {seen[name]} already")
                    seen[name] = file
                width = width or batch.vectors.dim
                count += len(batch.ids)
                _check(batch, width, file, finite=checked)
                yield batch
    if not count:
        raise BadData(f"{path}: there are no documents")


def query_vectors(path: Path) -> tuple[list[str], list[Tensor]]:
    """Return the queries of a file in the first layout: ``query_ids`` and ``query_vectors``."""
    with _opened(path) as arrays:
        for name in ("query_ids", "query_vectors"):
            if name not in arrays.names:
                raise BadData(f"{path}: there is no array {name!r}")
        ids = [str(name) for name in arrays.whole("query_ids").tolist()]
        vectors = _tensor(arrays.whole("query_vectors"))
    if vectors.ndim != 3 or len(vectors) != len(ids):
        raise BadData(
            f"{path}: wanted query_vectors [{len(ids)}, tokens, width], got {list(vectors.shape)}"
        )
    return ids, list(vectors.float())


def one_query(path: Path) -> Tensor:
    """Return the vectors of one query [q, d] from a file that holds a single array."""
    if path.suffix == ".npy":
        with _file(path) as file, _translated(path):
            vectors = _tensor(_Member(file, path.stat().st_size, str(path)).rows(None))
    else:
        with _opened(path) as arrays:
            if len(arrays.names) != 1:
                raise BadData(f"{path}: wanted one array, got {', '.join(arrays.names) or 'none'}")
            vectors = _tensor(arrays.whole(next(iter(arrays.names))))
    if vectors.ndim == 3 and len(vectors) == 1:
        vectors = vectors[0]
    if vectors.ndim != 2:
        raise BadData(f"{path}: wanted the vectors of one query [tokens, width], "
                      f"got {list(vectors.shape)}")  # fmt: skip
    return vectors.float()


class _Member:
    """One array inside a file, read front to back."""

    def __init__(self, stream: IO[bytes], size: int, where: str) -> None:
        self._stream = stream
        self._where = where
        with _translated(where):
            version = np.lib.format.read_magic(stream)
            readers = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }
            if version not in readers:
                raise BadData(f"{where}: version {version} of the .npy format is not read")
            self.shape, fortran, self.dtype = readers[version](stream)
        if self.dtype.hasobject:
            raise BadData(f"{where}: holds Python objects, which are never unpickled")
        if fortran and len(self.shape) > 1:
            raise BadData(f"{where}: stored column by column; save it in C order")
        wanted = math.prod(self.shape) * self.dtype.itemsize
        if stream.tell() + wanted != size:
            raise BadData(
                f"{where}: the header promises {wanted} bytes, there are {size - stream.tell()}"
            )
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize

    def rows(self, count: int | None) -> NDArray[Any]:
        """Return the next ``count`` rows, or all of the array."""
        shape = self.shape if count is None else (count, *self.shape[1:])
        wanted = math.prod(shape) * self.dtype.itemsize
        with _translated(self._where):
            raw = self._stream.read(wanted)
        if len(raw) != wanted:
            raise BadData(f"{self._where}: the file ends early")
        # A copy, because what comes straight from bytes cannot be written to.
        return np.frombuffer(raw, dtype=self.dtype).reshape(shape).copy()


class _Npz:
    """The arrays of an ``.npz`` file."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        self.names = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }

    def stream(self, name: str) -> _Member:
        """Open an array to be read row by row."""
        info = self.names[name]
        with _translated(self._path):
            return _Member(self._archive.open(info), info.file_size, f"{self._path}: {name}")

    def whole(self, name: str) -> NDArray[Any]:
        """Read an array."""
        return self.stream(name).rows(None)

    def doc_ids(self) -> list[str]:
        """Return the documents' ids."""
        if "doc_ids" not in self.names:
            raise BadData(f"{self._path}: there is no array 'doc_ids'")
        return [str(name) for name in self.whole("doc_ids").tolist()]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return an array's shape."""
        return self.stream(name).shape


class _SafeSlice:
    """An array of a safetensors file, read front to back."""

    def __init__(self, piece: Any) -> None:
        self._piece = piece
        self._at = 0
        self.shape = tuple(piece.get_shape())

    def rows(self, count: int | None) -> Tensor:
        """Return the next ``count`` rows, or all of the array."""
        stop = self.shape[0] if count is None else self._at + count
        rows: Tensor = self._piece[self._at : stop]
        self._at = stop
        return rows


class _Safetensors:
    """The arrays of a safetensors file."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file = file
        self._path = path
        self.names = dict.fromkeys(file.keys())

    def stream(self, name: str) -> _SafeSlice:
        """Open an array to be read row by row."""
        return _SafeSlice(self._file.get_slice(name))

    def whole(self, name: str) -> Tensor:
        """Read an array."""
        array: Tensor = self._file.get_tensor(name)
        return array

    def doc_ids(self) -> list[str]:
        """Return the documents' ids."""
        written = (self._file.metadata() or {}).get("doc_ids", "")
        try:
            ids = json.loads(written)
        except ValueError as error:
            raise BadData(f"{self._path}: the metadata has no JSON list 'doc_ids'") from error
        return [str(name) for name in ids]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return an array's shape."""
        return self.stream(name).shape


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    try:
        opened = path.open("rb")
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror or error}") from error
    with opened:
        yield opened


@contextmanager
def _opened(path: Path) -> Iterator[_Npz | _Safetensors]:
    if path.suffix not in SUFFIXES:
        raise BadData(f"{path}: wanted a {' or '.join(SUFFIXES)} file")
    if path.suffix == ".npz":
        with _file(path) as file:
            try:
                archive = zipfile.ZipFile(file)
            except zipfile.BadZipFile as error:
                raise BadData(f"{path}: not a whole .npz file ({error})") from error
            with archive:
                yield _Npz(archive, path)
        return
    from safetensors import SafetensorError, safe_open

    with _file(path):
        pass
    try:
        with safe_open(path, framework="pt") as file:
            yield _Safetensors(file, path)
    except SafetensorError as error:
        raise BadData(f"{path}: not a whole .safetensors file ({error})") from error


@contextmanager
def _translated(where: Path | str) -> Iterator[None]:
    """Turn what the readers of the standard library and NumPy raise into `BadData`."""
    try:
        yield
    except BadData:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise BadData(f"{where}: cannot be read ({error})") from error


def _packed(arrays: _Npz | _Safetensors, documents: int) -> Iterator[VectorBatch]:
    """Read the layout in which all documents lie end to end."""
    where = arrays._path
    ids = arrays.doc_ids()
    lengths = _tensor(arrays.whole("doclens")).long()
    shape = arrays.shape("doc_vectors")
    if len(shape) != 2 or len(lengths) != len(ids) or int(lengths.sum()) != shape[0]:
        raise BadData(
            f"{where}: {len(ids)} doc_ids, {len(lengths)} doclens that add up to "
            f"{int(lengths.sum())}, and doc_vectors {list(shape)} do not fit together"
        )
    if len(lengths) and int(lengths.min()) < 1:
        raise BadData(f"{where}: the document {ids[int(lengths.argmin())]!r} has no vectors")
    streams = {name: arrays.stream(name) for name in PER_TOKEN if name in arrays.names}
    vectors = arrays.stream("doc_vectors")
    for start in range(0, len(ids), documents):
        some = lengths[start : start + documents]
        count = int(some.sum())
        known = {name: _tensor(stream.rows(count)) for name, stream in streams.items()}
        tokens = _tensor(vectors.rows(count)).float()
        yield VectorBatch(ids[start : start + documents], Ragged(tokens, some, **known))


def _one_by_one(arrays: _Npz | _Safetensors, documents: int) -> Iterator[VectorBatch]:
    """Read the layout in which every document is an array under its id."""
    names = [name for name in arrays.names if len(arrays.shape(name)) == 2]
    if not names:
        raise BadData(
            f"{arrays._path}: wanted the arrays doc_ids, doclens and doc_vectors, "
            "or one array [tokens, width] per document"
        )
    grids = _grids(arrays, len(names))
    for start in range(0, len(names), documents):
        some = names[start : start + documents]
        matrices = [_tensor(arrays.whole(name)).float() for name in some]
        for name, matrix in zip(some, matrices, strict=True):
            if not len(matrix) or matrix.shape[1] != matrices[0].shape[1]:
                raise BadData(
                    f"{arrays._path}: the document {name!r} has the shape {list(matrix.shape)}; "
                    f"wanted [at least 1, {matrices[0].shape[1]}]"
                )
        lengths = torch.tensor([len(matrix) for matrix in matrices])
        batch = Ragged(torch.cat(matrices), lengths)
        if grids is not None:
            grid = grids[start : start + documents]
            patches = (grid[:, 1] * grid[:, 2])[batch.item_of]
            batch = Ragged(batch.tokens, lengths, special=batch.positions >= patches, grid=grid)
        yield VectorBatch(some, batch)


def _grids(arrays: _Npz | _Safetensors, count: int) -> Tensor | None:
    if not {"grid_rows", "grid_cols"} <= arrays.names.keys():
        return None
    rows, columns = (_tensor(arrays.whole(name)).long() for name in ("grid_rows", "grid_cols"))
    if rows.shape != (count,) or columns.shape != (count,):
        raise BadData(f"{arrays._path}: grid_rows and grid_cols must name {count} pages")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=1)


def _check(batch: VectorBatch, width: int, path: Path, *, finite: bool) -> None:
    if batch.vectors.dim != width:
        raise BadData(
            f"{path}: the vectors of {batch.ids[0]!r} are {batch.vectors.dim} wide, "
            f"those before {width}"
        )
    sound = torch.isfinite(batch.vectors.tokens).all(dim=1)
    if finite and not bool(sound.all()):
        item = int(batch.vectors.item_of[~sound][0])
        raise BadData(f"{path}: the document {batch.ids[item]!r} holds a value that is not finite")


def _tensor(array: NDArray[Any] | Tensor) -> Tensor:
    if isinstance(array, Tensor):
        return array
    if array.dtype.kind not in "fiub":
        raise BadData(f"wanted numbers, got an array of {array.dtype}")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def judgements(path: Path) -> dict[str, dict[str, int]]:
    """Return the judgements of a file that holds some: query -> document -> grade."""
    names = ("qrels_query_ids", "qrels_doc_ids", "qrels_scores")
    with _opened(path) as arrays:
        for name in names:
            if name not in arrays.names:
                raise BadData(f"{path}: there are no judgements; the array {name!r} is missing")
        queries, documents, grades = (arrays.whole(name).tolist() for name in names)
    found: dict[str, dict[str, int]] = {}
    for query, document, grade in zip(queries, documents, grades, strict=False):
        found.setdefault(str(query), {})[str(document)] = int(grade)
    return found
