"""Turning batches of documents into a segment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol, TypeAlias

import numpy as np
from torch import Tensor

from colreduce.candidates.base import Builder, Documents, FirstStage
from colreduce.device import CPU
from colreduce.index.limits import MAX_DOCUMENT_TOKENS
from colreduce.index.sample import Keeper
from colreduce.index.stored import WHOLE, whole_codec
from colreduce.pipeline import Passed, Pipeline
from colreduce.ragged import Ragged
from colreduce.store import Segment, SegmentWriter

LENGTHS, ORIGINAL = "lengths", "original_lengths"
ASSIGNMENT, GRID = "assignment", "grid"
PICTURES, PICTURE_SIZES = "pictures", "picture_sizes"
CODES, FIRST = "codes.", "first."

# Told of documents as every stage left them: their ids, and what the pipeline kept.
Watch: TypeAlias = Callable[[Sequence[str], Passed], None]


class Bench(Protocol):
    """Where a segment can be begun: a store, or a workshop."""

    def begin(self) -> SegmentWriter:
        """Start a segment; nobody sees it before it is committed."""


class SegmentBuilder:
    """Runs documents through the pipeline and appends what comes out to one segment."""

    def __init__(
        self,
        bench: Bench,
        pipeline: Pipeline,
        *,
        texts: bool,
        assignment: bool,
        watch: Watch | None = None,
        keeper: Keeper | None = None,
        pictures: bool = False,
    ) -> None:
        self.pipeline = pipeline
        self.writer: SegmentWriter = bench.begin()
        self.seconds = {"reduce": 0.0, "first_stage": 0.0}
        self._texts = texts
        self._explained = assignment
        self._grids = False
        self._pictures = pictures
        self._watch = watch
        self._keeper = keeper
        self._builders: dict[str, Builder] = {
            key: method.builder(pipeline.states.get(key, {}))
            for key, method in pipeline.recipe.keyed()
            if isinstance(method, FirstStage)
        }
        self._whole = whole_codec(pipeline.recipe)
        self._on_device = {key for key, method in pipeline.recipe.keyed() if method.on_device}

    def add(
        self,
        ids: Sequence[str],
        batch: Ragged,
        texts: Sequence[str | None],
        metadata: Sequence[Mapping[str, Any]] | None,
        pictures: Sequence[bytes] | None = None,
    ) -> None:
        """Take in encoded documents."""
        started = perf_counter()
        passed = self.pipeline.passed(batch)
        self.seconds["reduce"] += perf_counter() - started
        self.take(ids, passed, texts, metadata, pictures)

    def take(
        self,
        ids: Sequence[str],
        passed: Passed,
        texts: Sequence[str | None],
        metadata: Sequence[Mapping[str, Any]] | None,
        pictures: Sequence[bytes] | None = None,
    ) -> None:
        """Take in documents that have been through the pipeline.

        pictures  a small picture of each, to be shown
        """
        batch, left = passed.batch, passed.left
        known = self._texts and any(text is not None for text in texts)
        self.writer.add(ids, metadata, texts if known else None)
        self.writer.append(LENGTHS, _counts(left.batch.lengths), per="document")
        self.writer.append(ORIGINAL, _counts(batch.lengths), per="document")
        for name, rows in passed.codes.items():
            self.writer.append(CODES + name, _array(rows), per=LENGTHS)
        if self._whole is not None:
            kept = self._whole.encode(passed.unreduced.tokens.float(), {})
            for name, rows in kept.items():
                self.writer.append(WHOLE + name, _array(rows), per=ORIGINAL)
        # Where nothing is reduced, every token is its own vector.
        if self._explained and self.pipeline.recipe.reducers:
            self.writer.append(ASSIGNMENT, _array(left.assignment).astype("<i2"), per=ORIGINAL)
        if self._explained:
            self._add_grid(batch)
        if self._pictures:
            self._add_pictures(pictures or [b""] * len(ids))
        started = perf_counter()
        documents = Documents(passed.unreduced, left.batch, texts)
        if self.pipeline.device != CPU:
            passed = passed.to(CPU)
        moved = Documents(passed.unreduced, passed.left.batch, texts)
        for key, builder in self._builders.items():
            some = documents if key in self._on_device else moved
            for name, part in builder.add(some).items():
                self.writer.append(f"{FIRST}{key}.{name}", part)
        self.seconds["first_stage"] += perf_counter() - started
        if self._keeper is not None:
            self._keeper.add(ids, passed.batch)
        if self._watch is not None:
            self._watch(ids, passed)

    def _add_grid(self, batch: Ragged) -> None:
        """Keep which patches the vectors of pages are; zeros where documents are no pages."""
        if batch.grid is None and not self._grids:
            return
        if not self._grids:
            self._grids = True
            before = self.writer.rows - len(batch)
            self.writer.append(GRID, np.zeros((before, 3), "<u2"), per="document")
        grid = batch.lengths.new_zeros(len(batch), 3) if batch.grid is None else batch.grid
        self.writer.append(GRID, _array(grid).astype("<u2"), per="document")

    def _add_pictures(self, pictures: Sequence[bytes]) -> None:
        """Keep the pictures end to end, as bytes; nothing for what has none."""
        sizes = np.array([len(one) for one in pictures], "<u4")
        self.writer.append(PICTURE_SIZES, sizes, per="document")
        self.writer.append(PICTURES, np.frombuffer(b"".join(pictures), "|u1"), per=PICTURE_SIZES)

    def finish(self) -> SegmentWriter:
        """Write the first stages' files; the segment is then ready to be committed."""
        started = perf_counter()
        for key, builder in self._builders.items():
            for name, part in builder.finish().items():
                full = f"{FIRST}{key}.{name}"
                if callable(part):
                    self.writer.blob(full, part)
                else:
                    self.writer.append(full, part)
        self.seconds["first_stage"] += perf_counter() - started
        if self._keeper is not None:
            self._keeper.write(self.writer)
        return self.writer

    def abort(self) -> None:
        """Throw the segment away."""
        self.writer.abort()


def _counts(lengths: Tensor) -> np.ndarray[Any, Any]:
    """Return numbers of vectors in the narrowest type that holds the most a document may have."""
    return _array(lengths).astype(np.min_scalar_type(MAX_DOCUMENT_TOKENS).newbyteorder("<"))


def _array(rows: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as a contiguous array in the byte order of the files."""
    array = np.ascontiguousarray(rows.detach().cpu().numpy())
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def picture_of(segment: Segment, row: int) -> bytes | None:
    """Return the picture that is kept of a document; None where there is none."""
    sizes = segment.arrays.get(PICTURE_SIZES)
    if sizes is None or not sizes[row]:
        return None
    start = int(sizes[:row].sum(dtype=np.int64))
    return bytes(segment.arrays[PICTURES][start : start + int(sizes[row])])
