"""The stages of a build, each in a thread of its own, a bounded number of steps ahead of the next.

The order of the documents is that of the source, whatever the speed of the stages: every stage is
an iterator over the one before it, and only one thing is handed on at a time.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from colreduce.embed import Encoder, PageEncoder, reads_pages
from colreduce.embed.pages import drawn, thumbnail
from colreduce.errors import BadData
from colreduce.index import limits
from colreduce.pipeline import Passed, Pipeline
from colreduce.ragged import Ragged
from colreduce_indexer.sources import Documents, Source
from colreduce_indexer.survey import Cutter, accepted, digest_of

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


# Pages that are drawn before they are asked for.
DRAWN = 2


@dataclass
class Clock:
    """Seconds by stage. Every stage has its own entry and its own thread."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Count the time of a block to a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            self.add(stage, perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Window:
    """Documents that are encoded and reduced together; they belong to one piece."""

    piece: int
    documents: Documents
    last: bool  # of its piece
    vectors: Ragged | None = None
    passed: Passed | None = None


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where a source is cut, which is fixed when a build begins.

    documents  there are
    block      documents in a block, each with a digest; window divides it, piece is a multiple
    window     documents that are encoded and reduced together
    piece      documents that are kept together
    starts     [blocks]      the number of each block's first record
    digests    [blocks, 32]  what each block must hold
    """

    documents: int
    block: int
    window: int
    piece: int
    starts: NDArray[np.int64]
    digests: NDArray[np.uint8]

    @property
    def pieces(self) -> int:
        """Return how many pieces there are."""
        return -(-self.documents // self.piece)

    def size(self, piece: int) -> int:
        """Return how many documents a piece has."""
        return min(self.piece, self.documents - piece * self.piece)


def windows(
    source: Source, cuts: Cuts, pieces: Sequence[int], rejected: frozenset[int], clock: Clock
) -> Iterator[Window]:
    """Read some pieces, and make sure that they hold what the first reading found."""
    before = None
    cutter: Cutter | None = None
    for piece in pieces:
        with clock.running("read"):
            if cutter is None or piece - 1 != before:
                start = int(cuts.starts[piece * cuts.piece // cuts.block])
                cutter = Cutter(accepted(source, start, rejected))
        before = piece
        for first in range(0, cuts.size(piece), cuts.block):
            count = min(cuts.block, cuts.size(piece) - first)
            with clock.running("read"):
                block = cutter.next(count)
                number = (piece * cuts.piece + first) // cuts.block
                _check(block, count, cuts.digests[number], source)
            assert block is not None
            for at in range(0, count, cuts.window):
                some = block.take(slice(at, at + cuts.window))
                yield Window(piece, some, first + at + len(some) >= cuts.size(piece))


def _check(block: Documents | None, count: int, wanted: NDArray[np.uint8], source: Source) -> None:
    digest = hashlib.sha256()
    if block is not None:
        digest_of(block, digest)
    if block is None or len(block) != count or digest.digest() != wanted.tobytes():
        raise BadData(
            f"{source.name} has changed since it was read the first time. Restore it as it was "
            "to go on with this build, or begin anew with --no-resume."
        )


def encoded(
    stream: Iterator[Window], encoder: Encoder | None, batch_size: int, dim: int, clock: Clock
) -> Iterator[Window]:
    """Give every document its vectors, and look at them."""
    for window in stream:
        some = window.documents
        with clock.running("encode"):
            some = with_vectors(some, encoder, batch_size)
            assert some.vectors is not None
            limits.check_documents(some.vectors, dim, some.ids)
        yield Window(window.piece, some, window.last, some.vectors)


def with_vectors(some: Documents, encoder: Encoder | None, batch_size: int) -> Documents:
    """Encode documents that are not vectors already; pages are drawn for it, and kept small."""
    if some.vectors is not None:
        return some
    assert encoder is not None, "documents need an encoder"
    if not isinstance(encoder, PageEncoder) or not reads_pages(encoder):
        vectors = Ragged.concat(list(encoder.documents(some.texts or [], batch_size)))
        return replace(some, vectors=vectors)
    small: list[bytes] = []

    def pictures() -> Iterator[Image]:
        for picture in drawn(page for page in some.pages or () if page is not None):
            small.append(thumbnail(picture))
            yield picture

    # The next pages are drawn while the last ones are encoded.
    with ahead(pictures, DRAWN) as stream:
        vectors = Ragged.concat(list(encoder.pages(stream, batch_size)))
    return replace(some, vectors=vectors, pictures=small)


def reduced(stream: Iterator[Window], pipeline: Pipeline, clock: Clock) -> Iterator[Window]:
    """Run every document through the recipe."""
    for window in stream:
        assert window.vectors is not None
        with clock.running("reduce"):
            passed = pipeline.passed(window.vectors)
        yield Window(window.piece, window.documents, window.last, window.vectors, passed)


class _End(Generic[T]):
    """The end of a stream, and what broke it off."""

    def __init__(self, problem: BaseException | None) -> None:
        self.problem = problem


@contextmanager
def ahead(make: Callable[[], Iterator[T]], room: int = 1) -> Iterator[Iterator[T]]:
    """Run an iterator in a thread of its own, at most ``room`` items ahead of who takes them."""
    waiting: queue.Queue[T | _End[T]] = queue.Queue(room)
    leaving = threading.Event()

    def put(item: T | _End[T]) -> bool:
        while not leaving.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in make():
                if not put(item):
                    return
        except BaseException as problem:
            put(_End(problem))
        else:
            put(_End(None))

    def take() -> Iterator[T]:
        while True:
            try:
                item = waiting.get(timeout=0.1)
            except queue.Empty:
                if leaving.is_set():
                    return
                continue
            if isinstance(item, _End):
                if item.problem is not None:
                    raise item.problem
                return
            yield item

    thread = threading.Thread(target=run, name="build", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        leaving.set()
        thread.join()
