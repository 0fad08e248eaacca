"""Models that encode on the server: each is loaded once and shared by every index it fits.

A model runs in one thread. Queries that wait meanwhile are encoded together, and go before
documents, which are encoded a few at a time so that no query waits long.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from colreduce.embed import Encoder, Reader, load_encoder
from colreduce.errors import BadInput, MissingDependency, ModelMismatch, Unavailable
from colreduce.index import Index
from colreduce.ragged import Ragged

if TYPE_CHECKING:
    from torch import Tensor

    from colreduce.embed import Reading

T = TypeVar("T")

# Queries that are encoded together at most, and documents at a time.
BATCH_QUERIES = 32
BATCH_DOCUMENTS = 4

# Seconds between two looks at whether anybody still waits for an encoding.
LOOK_SECONDS = 0.05

NO_ENCODER = "none"

CLOSED = "the server is shutting down: try again"


class SharedEncoder:
    """An `Encoder` that many threads may use at once."""

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner
        self._changed = threading.Condition()
        self._queries: deque[tuple[str, Future[Tensor]]] = deque()
        self._others: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._closed = False
        self.batches = 0  # forward passes over queries
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""
        return self._inner.dim

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return what tells this model from another."""
        return self._inner.identity

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Return the number of every token of the tokenizer."""
        return self._inner.vocabulary

    @property
    def source(self) -> str | None:
        """Return where the model can be loaded from again."""
        return getattr(self._inner, "source", None)

    def describe(self) -> str:
        """Say in one line what kind of model this is."""
        return self._inner.describe()

    def queries(self, texts: Sequence[str], batch_size: int = BATCH_QUERIES) -> list[Tensor]:
        """Encode queries, together with those of other threads."""
        return self.encode(texts)

    def encode(
        self, texts: Sequence[str], check: Callable[[], None] = lambda: None
    ) -> list[Tensor]:
        """Encode queries; ``check`` is called while they wait, and raises when nobody does."""
        waiting: list[tuple[str, Future[Tensor]]] = [(text, Future()) for text in texts]
        with self._changed:
            self._require_open()
            self._queries.extend(waiting)
            self._changed.notify()
        try:
            return [_awaited(future, check) for _, future in waiting]
        except BaseException:
            for _, future in waiting:  # nobody waits for the others any more
                future.cancel()
            raise

    def documents(
        self,
        texts: Iterable[str],
        batch_size: int = BATCH_DOCUMENTS,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[Ragged]:
        """Encode documents in their order, a few at a time between queries; ``check`` as above."""
        stream = iter(texts)
        while some := list(islice(stream, BATCH_DOCUMENTS)):
            check()
            yield from self._run_there(partial(self._documents, some), check)

    def read(self, text: str, *, query: bool = False) -> Reading | None:
        """Encode one text and say what each of its vectors stands for; None when unknown."""
        if not isinstance(self._inner, Reader):
            return None
        found: Reading | None = self._run_there(partial(self._inner.read, text, query=query))
        return found

    def close(self) -> None:
        """End the thread; what waits is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(CLOSED)

    def _documents(self, texts: list[str]) -> list[Ragged]:
        return list(self._inner.documents(texts, BATCH_DOCUMENTS))

    def _run_there(self, work: Callable[[], Any], check: Callable[[], None] = lambda: None) -> Any:
        """Let the model's thread do something, after the queries that wait."""
        future: Future[Any] = Future()
        with self._changed:
            self._require_open()
            self._others.append((work, future))
            self._changed.notify()
        return _awaited(future, check)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._queries or self._others or self._closed):
                    self._changed.wait()
                if self._closed:
                    break
                count = min(len(self._queries), BATCH_QUERIES)
                queries = [self._queries.popleft() for _ in range(count)]
                other = None if queries else self._others.popleft()
            if other is not None:
                _settle(*other)
            else:
                self._encode_queries([one for one in queries if _wanted(one[1])])
        for _, future in [*self._queries, *self._others]:
            if _wanted(future):
                future.set_exception(Unavailable(CLOSED))

    def _encode_queries(self, wanted: list[tuple[str, Future[Tensor]]]) -> None:
        """Encode queries together; what fails together is tried one by one."""
        if not wanted:
            return
        self.batches += 1
        try:
            encoded = self._inner.queries([text for text, _ in wanted], BATCH_QUERIES)
        except Exception as error:
            if len(wanted) == 1:
                wanted[0][1].set_exception(error)
                return
            for one in wanted:
                self._encode_queries([one])
            return
        for (_, future), vectors in zip(wanted, encoded, strict=True):
            future.set_result(vectors)


class Encoders:
    """Models loaded once and lent to every index that was built with them."""

    def __init__(self, given: Sequence[str] = (), device: str = "auto") -> None:
        """``given`` are models for all indexes, or ``none``; with nothing each brings its own."""
        self._given = tuple(given)
        self._device = device
        self._loaded: dict[str, SharedEncoder] = {}
        self._loading: dict[str, threading.Lock] = {}  # held while the model of that digest loads
        self._guard = threading.Lock()

    @property
    def none(self) -> bool:
        """Say whether this server was told to encode nothing."""
        return self._given == (NO_ENCODER,)

    def all(self) -> list[SharedEncoder]:
        """Return the models that are loaded."""
        return list(self._loaded.values())

    def find(self, name: str) -> SharedEncoder:
        """Return a loaded model by its name or its digest."""
        for encoder in self.all():
            if name in (encoder.identity.get("name"), encoder.identity.get("sha256")):
                return encoder
        known = ", ".join(str(one.identity.get("name")) for one in self.all()) or "none"
        raise BadInput(
            f"the server has loaded no encoder {name!r}; loaded: {known}", field="encoder"
        )

    def load(self) -> None:
        """Load the models that were given, so that a wrong name is known at once."""
        if NO_ENCODER in self._given and not self.none:
            raise BadInput("--encoder none stands alone: give models, or none", field="encoder")
        for name in () if self.none else self._given:
            self.keep(load_encoder(name, device=self._device))

    def lend(self, index: Index) -> None:
        """Give an index the model it was built with, loading it if need be, or raise why not."""
        if self.none:
            raise BadInput("this server encodes no text: give vectors instead", field="query.text")
        wanted = index.describe()["encoder"]
        if self._given:
            index.use_encoder(self._fitting(index, wanted))
            return
        if wanted is None:
            raise BadInput(
                "this collection was built from vectors, so it cannot encode text: "
                "give vectors instead",
                field="query.text",
            )
        with self._guard:
            loading = self._loading.setdefault(wanted["sha256"], threading.Lock())
        # Loading takes long: only those who want the same model wait for it.
        with loading:
            known = self._loaded.get(wanted["sha256"])
            index.use_encoder(known or self.keep(_own_encoder(index)))

    def keep(self, encoder: Encoder) -> SharedEncoder:
        """Share a model that is loaded already with every index that was built with it."""
        encoder.queries(["The first text takes longer than others. This is the first text."])
        shared = SharedEncoder(encoder)
        with self._guard:
            self._loaded = {**self._loaded, str(encoder.identity["sha256"]): shared}
        return shared

    def close(self) -> None:
        """End the threads of all models."""
        for encoder in self.all():
            encoder.close()

    def _fitting(self, index: Index, wanted: Mapping[str, Any] | None) -> SharedEncoder:
        """Return the given model that an index was built with; the first one when none was."""
        first = self.all()[0]
        if wanted is not None:
            return self._loaded.get(str(wanted["sha256"]), first)  # `use_encoder` says what differs
        if first.dim != index.dim:
            raise ModelMismatch(
                f"the index holds vectors for {index.dim}-wide queries, and {first.describe()} "
                f"makes {first.dim}-wide ones"
            )
        return first


def _awaited(future: Future[T], check: Callable[[], None]) -> T:
    """Wait for what the model's thread does; give it up when ``check`` raises."""
    while True:
        try:
            return future.result(LOOK_SECONDS)
        except NotYet:
            try:
                check()
            except BaseException:
                future.cancel()
                raise


def _settle(work: Callable[[], Any], future: Future[Any]) -> None:
    if _wanted(future):
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)


def _wanted(future: Future[Any]) -> bool:
    return future.set_running_or_notify_cancel()


def _own_encoder(index: Index) -> Encoder:
    try:
        return index.encoder
    except BadInput as error:  # the server's setting is at fault, and not the caller's input
        raise MissingDependency(
            "this server cannot load the encoder of this collection, so give vectors, or start it "
            f"with --encoder and where that model is: {error}"
        ) from error
