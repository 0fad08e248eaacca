"""An encoder that is loaded when something must be encoded, and not before.

Loading a model takes seconds, even if all that is wanted is its name and digest to find what was
kept. The identity of a model folder is therefore remembered by the names, sizes and times of its
files, beside the outcomes of evaluations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colreduce.errors import BadInput
from colreduce.evaluate.machine import versions
from colreduce.evaluate.outcomes import OutcomeCache

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from colreduce.embed import Encoder, Reading
    from colreduce.ragged import Ragged


class RememberedEncoder:
    """An `Encoder` by its folder or hub id."""

    def __init__(self, model: str | Path, device: str, cache: OutcomeCache) -> None:
        self._model = model
        self._device = device
        self._cache = cache
        self.source = str(model)

    @cached_property
    def loaded(self) -> Encoder:
        """Return the encoder itself, loading it the first time."""
        from colreduce.embed import load_encoder

        encoder = load_encoder(self._model, device=self._device)
        self.source = getattr(encoder, "source", None) or self.source
        return encoder

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Return what tells this model from another."""
        key = _key(Path(self._model))
        known = None if key is None else self._cache.values(key)
        if known is not None:
            return known
        identity = self.loaded.identity
        if key is not None:
            self._cache.keep_values(key, identity)
        return identity

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""
        return int(self.identity["dim"])

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return the number of every token of the tokenizer."""
        return self.loaded.vocabulary

    def documents(self, texts: Iterable[str], batch_size: int = 32) -> Iterator[Ragged]:
        """Encode documents in their order, some batches at a time."""
        return self.loaded.documents(texts, batch_size)

    def pages(self, pictures: Iterable[Image], batch_size: int = 4) -> Iterator[Ragged]:
        """Encode pages in their order, a few at a time, if it is an encoder of pages."""
        from colreduce.embed import PageEncoder

        loaded = self.loaded
        if not isinstance(loaded, PageEncoder):
            raise BadInput(f"{self.identity['name']} reads no pages", field="encoder")
        return loaded.pages(pictures, batch_size)

    def queries(self, texts: Sequence[str], batch_size: int = 32) -> list[Tensor]:
        """Encode queries."""
        return self.loaded.queries(texts, batch_size)

    def read(self, text: str, *, query: bool = False) -> Reading | None:
        """Encode one text and say what each of its vectors stands for; None when unknown."""
        from colreduce.embed import Reader

        loaded = self.loaded
        return loaded.read(text, query=query) if isinstance(loaded, Reader) else None

    def describe(self) -> str:
        """Say in one line what kind of model this is."""
        return self.loaded.describe()


def _key(folder: Path) -> str | None:
    """Return what tells the state of a model's folder; None if it is no folder."""
    if not folder.is_dir():
        return None
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            about = path.stat()
            files.append([path.relative_to(folder).as_posix(), about.st_size, about.st_mtime_ns])
    known = json.dumps([str(folder.resolve()), files, versions()])
    return hashlib.sha256(f"encoder {known}".encode()).hexdigest()
