"""Safetensors: a folder of files that `colreduce index --vectors` and anybody else can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from colreduce.export.base import Exporter
from colreduce.export.source import Block, Source
from colreduce.store import fs

DOCUMENTS = "documents.jsonl"
LEARNED = Path("learned", "codec.safetensors")  # apart from the parts, which are all read alike


class Safetensors(Exporter):
    """A folder of ``part-*.safetensors``, with ids, metadata and texts in ``documents.jsonl``."""

    name: ClassVar[str] = "safetensors"
    takes_codes: ClassVar[bool] = True

    def write(self, source: Source, place: Path) -> None:
        """Write one part for every block of documents, and what the codec learned."""
        from safetensors.numpy import save

        fs.mkdir(place)
        lines = fs.Sink(place / DOCUMENTS)
        try:
            for number, block in enumerate(source.blocks()):
                told = {
                    "colreduce": json.dumps(source.about),
                    "doc_ids": json.dumps(block.ids, ensure_ascii=False),
                }
                part = place / f"part-{number:05}.safetensors"
                fs.write_once(part, save(_tensors(block, source), metadata=told))
                for line in _lines(block, source):
                    lines.write(line)
            lines.finish()
        finally:
            lines.abandon()
        if source.as_stored and source.learned():
            told = {"colreduce": json.dumps(source.about)}
            fs.mkdir(place / LEARNED.parent)
            fs.write_once(place / LEARNED, save(source.learned(), metadata=told))


def _tensors(block: Block, source: Source) -> dict[str, NDArray[np.generic]]:
    """Return what a part holds, under the names that the reader of vectors knows."""
    tensors: dict[str, NDArray[np.generic]] = {"doclens": block.lengths}
    if source.as_stored:
        tensors |= {f"codes.{name}": codes for name, codes in block.codes.items()}
    else:
        tensors["doc_vectors"] = block.vectors
    tensors |= {f"first_stage.{name}": vectors for name, vectors in block.single.items()}
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _lines(block: Block, source: Source) -> list[bytes]:
    """Return a line of JSON for each document."""
    lines = []
    for name, metadata, text in zip(block.ids, block.metadata, block.texts, strict=True):
        entry = {"_id": name, "metadata": metadata, **({"text": text} if source.texts else {})}
        lines.append(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
    return lines
