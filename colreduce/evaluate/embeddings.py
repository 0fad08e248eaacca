"""Token vectors of a corpus, computed once and kept on disk.

A corpus is encoded a few batches at a time into plain files that are mapped into memory
afterwards; it never has to fit there. Under the cache folder, which is ``~/.cache/colreduce``
unless ``COLREDUCE_CACHE`` names another, each set of vectors lies in a folder named by the sha256
of the encoder's identity and of every text. A folder appears whole or not at all.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colreduce.embed import Encoder, PageEncoder
from colreduce.embed.pages import Page, drawn
from colreduce.errors import BadData, BadInput, ColreduceError, DiskFull
from colreduce.evaluate.progress import Progress as Progress
from colreduce.evaluate.progress import cache_folder as cache_folder
from colreduce.evaluate.progress import silent as silent
from colreduce.ragged import TOKEN_FIELDS, Ragged, runs

FORMAT = 1
META = "meta.json"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The token vectors of some texts, mapped from disk, and what is known of every token."""

    tokens: NDArray[np.float32]
    lengths: NDArray[np.int64]
    known: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seconds: float = 0.0  # what encoding took, when it was done
    key: str = ""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""
        return int(self.tokens.shape[1])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Return where each text's vectors start, and the end: [n + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def span(self, start: int, stop: int) -> Ragged:
        """Read the texts from ``start`` to ``stop`` into memory."""
        bounds = self.offsets
        rows = slice(int(bounds[start]), int(bounds[stop]))
        known = {
            name: _read(array[start:stop] if name == "grid" else array[rows])
            for name, array in self.known.items()
        }
        return Ragged(_read(self.tokens[rows]), _read(self.lengths[start:stop]), **known)

    def take(self, items: Iterable[int]) -> Ragged:
        """Read some texts into memory, in the order given."""
        return Ragged.concat([self.span(item, item + 1) for item in items])

    def spans(self, max_tokens: int) -> Iterator[tuple[int, int]]:
        """Yield runs ``start, stop`` of whole texts with at most so many vectors (one at least)."""
        yield from runs(self.lengths, max_tokens)

    def blocks(self, max_tokens: int) -> Iterator[tuple[int, Ragged]]:
        """Yield the texts some at a time, with the number of the first one."""
        for start, stop in self.spans(max_tokens):
            yield start, self.span(start, stop)


def text_key(encoder: Encoder, kind: str, texts: Iterable[str]) -> str:
    """Return the sha256 of an encoder's identity and of some texts, each with its length."""
    identity = json.dumps(dict(encoder.identity), sort_keys=True, default=str)
    digest = hashlib.sha256(f"{FORMAT} {kind} {identity}\n".encode())
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


class EmbeddingStore:
    """A folder of embeddings; a temporary one that goes with the object when nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="colreduce-")
            folder = Path(self._scratch.name)
        self.folder = folder

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    def documents(
        self,
        encoder: Encoder,
        texts: Callable[[], Iterator[str]],
        *,
        batch_size: int = 32,
        progress: Progress = silent,
    ) -> Embeddings:
        """Return the vectors of documents, encoding them if that was not done before.

        ``texts`` is called twice: once for the key, once for the encoder.
        """
        count = 0

        def counted() -> Iterator[str]:
            nonlocal count
            for text in texts():
                count += 1
                yield text

        key = text_key(encoder, "documents", counted())
        found = self.find(key)
        if found is None:
            found = self.write(key, encoder.documents(texts(), batch_size), count, progress)
        return found

    def pages(
        self,
        encoder: Encoder,
        pages: Callable[[], Iterator[Page]],
        *,
        batch_size: int = 32,
        progress: Progress = silent,
    ) -> Embeddings:
        """Return the vectors of pages, drawing and encoding them if that was not done before."""
        if not isinstance(encoder, PageEncoder):
            raise BadInput(f"{encoder.identity['name']} reads no pages", field="encoder")
        digests = [page.digest() for page in pages()]
        key = text_key(encoder, "pages", digests)
        found = self.find(key)
        if found is None:
            made = encoder.pages(drawn(pages()), batch_size)
            found = self.write(key, made, len(digests), progress)
        return found

    def queries(self, encoder: Encoder, texts: list[str], batch_size: int = 32) -> Embeddings:
        """Return the vectors of queries."""
        key = text_key(encoder, "queries", texts)
        found = self.find(key)
        if found is None:
            started = perf_counter()
            packed = Ragged.pack(encoder.queries(texts, batch_size))
            found = self.write(key, [packed], len(texts), silent, started)
        return found

    def write_once(
        self, batches: Iterable[Ragged], total: int, progress: Progress = silent
    ) -> Embeddings:
        """Write vectors that are not kept: they go when the store is left."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="colreduce-")
        inner = EmbeddingStore(Path(self._scratch.name))
        written = inner.write(
            uuid.uuid4().hex, batches, total, lambda _, done, count: progress("read", done, count)
        )
        return dataclasses.replace(written, key="", seconds=0.0)

    def find(self, key: str) -> Embeddings | None:
        """Return what was written under a key; None if it is not there or not whole."""
        folder = self.folder / key
        try:
            return _load(folder, key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            # A cache is never worth an error: what does not fit is thrown away and made anew.
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def write(
        self,
        key: str,
        batches: Iterable[Ragged],
        total: int,
        progress: Progress = silent,
        started: float | None = None,
    ) -> Embeddings:
        """Write batches of vectors under a key and return them mapped."""
        started = perf_counter() if started is None else started
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            working = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self.folder))
            try:
                _write(working, batches, total, progress, started)
                _publish(working, self.folder / key)
            finally:
                shutil.rmtree(working, ignore_errors=True)
        except ColreduceError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"there is no room for the embeddings under {self.folder}. "
                    "COLREDUCE_CACHE can name another folder."
                ) from error
            raise
        return _load(self.folder / key, key)


def _write(
    folder: Path, batches: Iterable[Ragged], total: int, progress: Progress, started: float
) -> None:
    lengths: list[Tensor] = []
    kept: set[str] | None = None
    dim = done = 0
    files: dict[str, Any] = {}
    dtypes: dict[str, str] = {}
    try:
        progress("encode", 0, total)
        for batch in batches:
            parts = _parts(batch.to("cpu", torch.float32))
            kept = set(parts) if kept is None else kept & set(parts)
            for name, array in parts.items():
                if name not in files:
                    files[name] = (folder / f"{name}.bin").open("wb")
                    dtypes[name] = array.dtype.str
                files[name].write(np.ascontiguousarray(array))
            lengths.append(batch.lengths.cpu())
            dim = batch.dim
            done += len(batch)
            progress("encode", done, total)
    finally:
        for file in files.values():
            file.close()
    if done != total:
        raise BadData(f"{total} texts were given, {done} came back encoded")
    np.save(folder / "lengths.npy", torch.cat(lengths).numpy().astype("<i8"))
    known = {name: dtypes[name] for name in sorted((kept or set()) - {"tokens"})}
    meta = {"format": FORMAT, "dim": dim, "known": known, "seconds": perf_counter() - started}
    (folder / META).write_text(json.dumps(meta), encoding="utf-8")


def _parts(batch: Ragged) -> dict[str, NDArray[Any]]:
    named = {"tokens": batch.tokens, "grid": batch.grid}
    named |= {name: getattr(batch, name) for name in TOKEN_FIELDS}
    return {name: part.numpy() for name, part in named.items() if part is not None}


def _publish(working: Path, folder: Path) -> None:
    try:
        os.rename(working, folder)
    except OSError as error:
        # Another process was first; both wrote the same.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _load(folder: Path, key: str) -> Embeddings:
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    if meta["format"] != FORMAT:
        raise ValueError("written by another version")
    lengths = np.load(folder / "lengths.npy", allow_pickle=False)
    total, dim = int(lengths.sum()), int(meta["dim"])

    def mapped(name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        path = folder / f"{name}.bin"
        if path.stat().st_size != int(np.prod(shape)) * np.dtype(dtype).itemsize:
            raise ValueError(f"{path} is not whole")
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)

    known = {
        name: mapped(name, dtype, (len(lengths), 3) if name == "grid" else (total,))
        for name, dtype in meta["known"].items()
    }
    tokens = mapped("tokens", "<f4", (total, dim))
    return Embeddings(tokens, lengths.astype(np.int64), known, float(meta["seconds"]), key)


def _read(array: NDArray[Any]) -> Tensor:
    """Copy a part of a mapped file: torch may not be handed memory it cannot write to."""
    return torch.from_numpy(np.array(array))
