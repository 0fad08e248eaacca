"""One index kept open: searched by many threads, written to by one, followed as it changes."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from colreduce.embed import Encoder
from colreduce.errors import (
    BadInput,
    ColreduceError,
    Damaged,
    DiskFull,
    Locked,
    ReadOnly,
    Unavailable,
)
from colreduce.index import Document, Hit, Index, WriteQueue
from colreduce.index.explain import explain
from colreduce.index.search import View
from colreduce.ragged import Ragged
from colreduce.results import Explanation
from colreduce.store import fs
from colreduce_service.call import Call, Searched
from colreduce_service.encoders import SharedEncoder

log = logging.getLogger(__name__)

# To find damage, all of an index is read. One that is damaged is not read again every second.
DAMAGED_SECONDS = 30.0

# Bytes that must fit on a full disk before it is said to have room again.
ROOM = 1 << 20
ROOM_FILE = ".tmp-room"  # what is so named is cleared away when an index is opened


class _Explained:
    """What an explanation takes of an index: one view of it, and only an encoder that it has."""

    def __init__(self, index: Index, view: View, textless: ColreduceError | None) -> None:
        self.dim = index.dim
        self.view = view
        self._index = index
        self._textless = textless

    @property
    def encoder(self) -> Encoder:
        """Return the encoder, or raise why the server has none for this index."""
        if self._textless is not None:
            raise copy.copy(self._textless)
        return self._index.encoder


class Collection:
    """An index under the name that requests use. One that cannot be opened says why when asked."""

    def __init__(
        self,
        name: str,
        path: Path,
        lend: Callable[[Index], None],
        *,
        write: bool = True,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the index; ``lend`` gives it an encoder, or raises why it has none.

        With ``write`` this process becomes its writer, as soon as no other process is. ``changed``
        is called when a write has shown that nothing more can be written, or that it can again.
        """
        self.name = name
        self.path = path
        self._lend = lend
        self._write = write
        self._changed = changed
        self._index: Index | None = None
        self._queue: WriteQueue | None = None
        self._folder: tuple[int, int] | None = None
        self._closed: ColreduceError | None = None  # why it cannot be searched
        self._textless: ColreduceError | None = None  # why it cannot be searched with text
        self._stale: ColreduceError | None = None  # why it shows an older generation
        self._unwritable: ColreduceError | None = None  # why it cannot be changed
        self._ended = False  # it was dropped, or the server stops
        self._not_before = 0.0  # when to look at the disk again
        self._guard = threading.RLock()  # held while it is opened, followed or closed
        try:
            self._open()
        except (ColreduceError, OSError) as error:
            self._closed = _ours(error)

    @property
    def ready(self) -> bool:
        """Say whether it can be searched."""
        return self._index is not None

    @property
    def problem(self) -> ColreduceError | None:
        """Return what is wrong with it."""
        return self._closed or self._stale

    @property
    def text_problem(self) -> ColreduceError | None:
        """Return why queries may not be text."""
        return self._closed or self._textless

    @property
    def write_problem(self) -> ColreduceError | None:
        """Return why it cannot be changed."""
        if self._index is not None and self._index.trouble:
            return ReadOnly(f"writing has stopped: {self._index.trouble}. Restart the server.")
        return self._closed or self._unwritable

    @property
    def index(self) -> Index:
        """Return the index, or raise why there is none."""
        if self._index is None:
            assert self._closed is not None
            raise copy.copy(self._closed)
        return self._index

    @property
    def generation(self) -> int:
        """Return the number of the newest commit that searches see."""
        return self.index.generation

    @property
    def documents(self) -> int:
        """Return how many documents there are."""
        return len(self.index)

    @property
    def shown(self) -> object:
        """Return something that is another object as soon as searches see a change."""
        return self.index.view

    def require_text(self, field: str) -> None:
        """Raise why texts cannot be encoded, if so; ``field`` is where the text stands."""
        if self._textless is not None:
            problem = copy.copy(self._textless)
            if isinstance(problem, BadInput):
                problem.field = field
            raise problem

    def search(
        self,
        queries: Sequence[Any],
        k: int,
        *,
        candidates: int | None,
        exact: bool,
        filter: Mapping[str, Any] | str | None,
        call: Call,
    ) -> tuple[int, list[list[Hit]]]:
        """Answer queries, all on one generation; return its number and a list of hits for each."""
        index = self.index
        view = index.view

        def encode(texts: Sequence[str]) -> Sequence[Any]:
            encoder = index.encoder
            assert isinstance(encoder, SharedEncoder)
            # Those that wait for the model hold no core, and the more wait the more go together.
            with call.outside():
                return encoder.encode(texts, call.check)

        with call.stage("encode"):
            asked = index.ask(
                queries,
                k,
                candidates=candidates,
                exact=exact,
                filter=filter,
                encode=encode,
                check=call.check,
            )
        documents = view.snapshot.count
        found = []
        for one in asked:
            call.check()
            scored = documents if exact else min(one.candidates, documents)
            call.cost += len(one.query.vectors) * scored
            hits = view.search(one)
            found.append(hits)
            # Without the request's own check: it would hold the request, and the request would hold
            # it, and gRPC turns others away while requests that are over have not been freed.
            kept = replace(one, check=lambda: None)
            call.searched.append(Searched(view, kept, hits))
            for stage, seconds in one.seconds.items():
                call.spent(stage, seconds)
        return view.snapshot.generation, found

    def encode_documents(self, texts: Sequence[str], call: Call) -> Ragged:
        """Encode the texts of documents, as long as somebody waits for it."""
        encoder = self.index.encoder
        assert isinstance(encoder, SharedEncoder)
        return Ragged.concat(list(encoder.documents(texts, check=call.check)))

    def get(self, ids: Sequence[str], pictures: bool = False) -> tuple[int, list[Document]]:
        """Return stored documents, and the generation that was read."""
        index = self.index
        return index.generation, index.get(ids, pictures=pictures)

    def explain(self, query: Any, one: str, *, call: Call) -> tuple[int, Explanation]:
        """Say why a document has its score, and on which generation."""
        index = self.index
        explained = _Explained(index, index.view, self._textless)
        with call.stage("explain"):
            told = explain(explained, query, one)
        call.cost += len(told.matches)
        return explained.view.snapshot.generation, told

    def describe(self) -> dict[str, Any]:
        """Return what the index holds, how it was built and what it costs."""
        return self.index.describe()

    @contextmanager
    def writing(self) -> Iterator[WriteQueue]:
        """Lend the queue that changes go through; remember what keeps them from being written."""
        self.index  # noqa: B018  (raises why there is none)
        queue = self._queue
        if queue is None:
            raise copy.copy(self.write_problem) or ReadOnly("this collection cannot be changed")
        try:
            yield queue
        except BadInput:
            if queue is not self._queue:  # it was closed meanwhile, which is not the caller's fault
                raise Unavailable("the collection has just been closed: try again") from None
            raise
        except DiskFull as error:
            self._unwritable = error
            self._changed()
            raise
        except ReadOnly:
            self._changed()
            raise

    def written(self) -> None:
        """Note that documents were written, so the disk has room."""
        if isinstance(self._unwritable, DiskFull):
            self._unwritable = None
            self._changed()

    def snapshot(self, target: Path) -> int:
        """Write a complete copy into one new file; return its generation."""
        return self.index.snapshot(target)

    def compact(self, *, purge: bool) -> tuple[int, int]:
        """Move all documents into one segment; return the generation and how many there are."""
        with self.writing():
            generation = self.index.compact(purge=purge)
        return generation, len(self.index.view.snapshot.segments)

    def follow(self) -> None:
        """Take over a newer generation, or a new index put in the place of the old one.

        What cannot be taken over is logged once and said in `problem`; the old stays in use.
        """
        if time.monotonic() < self._not_before:
            return
        try:
            with self._guard:
                if self._ended:
                    return
                if self._index is None or _identity(self.path) != self._folder:
                    self._open()
                else:
                    self._refresh(self._index)
            self._stale = None
        except (ColreduceError, OSError) as error:
            problem = _ours(error)
            if isinstance(problem, Damaged):
                self._not_before = time.monotonic() + DAMAGED_SECONDS
            known = self.problem
            if known is None or str(known) != str(problem):
                log.warning("%s cannot be read again: %s", self.name, problem)
            if self._index is None:
                self._closed = problem
            else:
                self._stale = problem

    def close(self) -> None:
        """Write what waits, and let go of the files."""
        with self._guard:
            self._ended = True
            self._stop_writing()
            if self._index is not None:
                self._index.close()

    def _open(self) -> None:
        folder = _identity(self.path)
        index = Index.open(self.path)
        self._textless = None
        try:
            self._lend(index)
        except ColreduceError as error:
            self._textless = error
        # The old index is not closed: requests may still be reading it. It goes when they have.
        self._stop_writing()
        self._index, self._folder, self._closed = index, folder, None
        self._start_writing(index)

    def _refresh(self, index: Index) -> None:
        if self._queue is None:
            before = index.generation
            if index.refresh() != before:
                log.info("%s is at generation %d", self.name, index.generation)
            self._start_writing(index)
        elif isinstance(self._unwritable, DiskFull) and _has_room(self.path):
            log.info("%s: the disk has room again", self.name)
            self._unwritable = None

    def _start_writing(self, index: Index) -> None:
        """Become the writer, unless another process is; then the next look tries again."""
        if not self._write:
            self._unwritable = ReadOnly("this server was started with --read-only")
            return
        try:
            index.acquire()
        except (Locked, ReadOnly, DiskFull, OSError) as error:
            known, self._unwritable = self._unwritable, _ours(error)
            if known is None or str(known) != str(self._unwritable):
                log.warning("%s cannot be changed: %s", self.name, self._unwritable)
            return
        self._queue, self._unwritable = WriteQueue(index), None

    def _stop_writing(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()


def _has_room(folder: Path) -> bool:
    """Say whether the disk takes a file again: by writing one, since quotas hide from statvfs."""
    probe = folder / ROOM_FILE
    try:
        fs.unlink(probe)
        fs.write_once(probe, bytes(ROOM))
        fs.unlink(probe)
    except OSError:
        return False
    return True


def _ours(error: Exception) -> ColreduceError:
    return error if isinstance(error, ColreduceError) else ColreduceError(str(error))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one put in its place; None when it is gone."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
