"""What every executor is given, what it makes of that, and the making of one piece."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from colreduce.device import chosen as on_device
from colreduce.embed import Encoder, load_encoder
from colreduce.errors import BadInput, ModelMismatch
from colreduce.evaluate.fidelity import Best, RunWatch
from colreduce.evaluate.held_out import Asking
from colreduce.index.build import Bench
from colreduce.index.identity import LIBRARIES, check_identity
from colreduce.index.loading import known_pipeline
from colreduce.index.making import piece_builder
from colreduce.libraries import installed
from colreduce.pipeline import Pipeline
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.store.workshop import Files
from colreduce_indexer.exchange import Left
from colreduce_indexer.progress import Meter
from colreduce_indexer.stages import Clock, Window, encoded, reduced

# Where what a ledger needs of a piece lies among the piece's arrays.
WATCHED = "ledger."


@dataclass(frozen=True, slots=True)
class Work:
    """What decides about the bytes of every piece, beside the documents in it.

    config      what is fixed in the index
    pipeline    the recipe with what its methods learned
    asking      the queries that losses are measured on, None for no ledger
    batch_size  texts that the encoder takes at a time
    piece       documents of a piece
    """

    config: Mapping[str, Any]
    pipeline: Pipeline
    asking: Asking | None
    batch_size: int
    piece: int

    @property
    def dim(self) -> int:
        """Return the width of the vectors."""
        return int(self.config["dim"])


@dataclass(frozen=True, slots=True)
class Job:
    """The work, and the means of this process to do it."""

    work: Work
    encoder: Encoder | None
    bench: Bench
    folder: Path  # on the disk of the index; other processes on this machine may make pieces there


@dataclass(frozen=True, slots=True)
class Made:
    """A piece that was sealed, and is to be kept.

    folder   where it lies on the disk of the index; None when its ``files`` have come along
    left     where it waits in object storage, until its files are fetched
    sha256   the digest of its segment.json
    best     what a ledger needs of it
    seconds  by stage, where another process made it
    """

    number: int
    folder: Path | None
    sha256: str
    best: Best | None
    documents: int = 0
    vectors: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    files: Files | None = None
    left: Left | None = None


class Executor(Protocol):
    """Whoever makes pieces."""

    def made(self, job: Job, stream: Iterable[Window], meter: Meter) -> Generator[Made, None, None]:
        """Make every piece whose windows come, in any order, and tell the meter of it."""


class Tally(Protocol):
    """Whoever counts the windows that were written."""

    def window(self, window: Window) -> None:
        """Count one."""


def make_piece(
    number: int, passed: Iterable[Window], bench: Bench, work: Work, clock: Clock, meter: Tally
) -> Made:
    """Write one piece of windows that went through the recipe, with what a ledger needs of it."""
    first = number * work.piece
    watch = None if work.asking is None else RunWatch(work.pipeline, work.asking, first)
    builder = piece_builder(bench, work.pipeline, work.config, first, watch)
    best = None
    try:
        for window in passed:
            assert window.passed is not None
            some = window.documents
            with clock.running("write"):
                texts: Sequence[str | None] = some.texts or [None] * len(some)
                builder.take(some.ids, window.passed, texts, some.metadata, some.pictures)
            meter.window(window)
            if window.last:
                break
        if watch is not None:
            best = watch.finish()
            for name, array in best.arrays().items():
                builder.writer.append(WATCHED + name, array)
        with clock.running("write"):
            sealed = builder.finish().seal(first)
    except BaseException:
        builder.abort()
        raise
    apart = {"first_stage": builder.seconds["first_stage"]}
    apart["ledger"] = 0.0 if watch is None else watch.seconds
    for stage, seconds in apart.items():
        clock.add(stage, seconds)
        clock.add("write", -seconds)
    return Made(number, sealed.directory, sealed.seal.sha256, best)


@dataclass
class Count:
    """Counts what is in one piece."""

    documents: int = 0
    vectors: int = 0

    def window(self, window: Window) -> None:
        """Count one window."""
        self.documents += len(window.documents)
        self.vectors += 0 if window.vectors is None else len(window.vectors.tokens)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Documents on their way to another process: plain values and arrays."""

    window: Window
    arrays: Mapping[str, NDArray[Any]] | None

    @classmethod
    def of(cls, window: Window) -> Parcel:
        """Pack a window that was read."""
        vectors = window.documents.vectors
        if vectors is None:
            return cls(window, None)
        bare = replace(window, documents=replace(window.documents, vectors=None))
        return cls(bare, as_arrays(vectors))

    def opened(self) -> Window:
        """Return the window."""
        if self.arrays is None:
            return self.window
        some = replace(self.window.documents, vectors=as_ragged(self.arrays))
        return replace(self.window, documents=some)


@dataclass(frozen=True, slots=True)
class Order:
    """One piece to be made: its number, and the documents in it."""

    number: int
    parcels: Sequence[Parcel]


def orders(stream: Iterable[Window]) -> Iterator[Order]:
    """Gather the windows of each piece."""
    parcels: list[Parcel] = []
    for window in stream:
        parcels.append(Parcel.of(window))
        if window.last:
            yield Order(window.piece, parcels)
            parcels = []


@dataclass(frozen=True, slots=True)
class Brief:
    """A job on its way to another process.

    learned  what the methods learned, by their keys
    asked    the vectors of the ledger's queries
    encoder  where it can be loaded from, or the encoder itself where nobody knows
    exchange  the URL of object storage where finished pieces are left; none to hand them over
    """

    config: Mapping[str, Any]
    learned: Mapping[str, Mapping[str, NDArray[Any]]]
    asking: tuple[str, Sequence[str | None], Sequence[str]] | None
    asked: Mapping[str, NDArray[Any]] | None
    batch_size: int
    piece: int
    encoder: Any
    device: str
    versions: Mapping[str, str]
    exchange: str

    @classmethod
    def of(cls, job: Job, device: str, exchange: str = "") -> Brief:
        """Write down what another process must know."""
        work, asking = job.work, job.work.asking
        return cls(
            config=work.config,
            learned={
                key: {name: tensor.cpu().numpy() for name, tensor in state.items()}
                for key, state in work.pipeline.states.items()
            },
            asking=None if asking is None else (asking.kind, asking.texts, asking.sources),
            asked=None if asking is None else as_arrays(asking.vectors),
            batch_size=work.batch_size,
            piece=work.piece,
            encoder=getattr(job.encoder, "source", None) or job.encoder,
            device=device,
            versions=installed(LIBRARIES),
            exchange=exchange,
        )


class Maker:
    """Makes pieces in another process: loads the model once, and then knows all that is needed."""

    def __init__(self, brief: Brief, bench: Bench) -> None:
        self._bench = bench
        _require_same_libraries(brief.versions)
        recipe = Recipe.from_dict(brief.config["recipe"])
        asking = None
        if brief.asking is not None and brief.asked is not None:
            kind, texts, sources = brief.asking
            asking = Asking(kind, as_ragged(brief.asked), texts, sources)
        pipeline = known_pipeline(recipe, brief.learned).on(on_device(brief.device))
        self._work = Work(brief.config, pipeline, asking, brief.batch_size, brief.piece)
        self._encoder: Encoder | None = None
        if brief.encoder is not None:
            self._encoder = load_encoder(brief.encoder, device=brief.device)
            check_identity(brief.config["encoder"], self._encoder)

    def make(self, order: Order) -> Made:
        """Make one piece."""
        work, clock, count = self._work, Clock(), Count()
        windows = (parcel.opened() for parcel in order.parcels)
        given = encoded(windows, self._encoder, work.batch_size, work.dim, clock)
        passed = reduced(given, work.pipeline, clock)
        made = make_piece(order.number, passed, self._bench, work, clock, count)
        return Made(
            made.number,
            made.folder,
            made.sha256,
            made.best,
            count.documents,
            count.vectors,
            clock.seconds,
        )


def as_arrays(vectors: Ragged) -> dict[str, NDArray[Any]]:
    """Return vectors, and all that is known of them, as arrays."""
    names = ("tokens", "lengths", *vectors.known)
    return {name: getattr(vectors, name).cpu().numpy() for name in names}


def as_ragged(arrays: Mapping[str, NDArray[Any]]) -> Ragged:
    """Return vectors that were arrays on their way; those may be read-only, so they are copied."""
    return Ragged(**{name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def require_workers(workers: int) -> None:
    """Refuse a number of workers that is none."""
    if workers < 1:
        raise BadInput(f"{workers} workers make nothing; give at least 1", field="workers")


def _require_same_libraries(wanted: Mapping[str, str]) -> None:
    """Refuse to make pieces with other libraries than those of whoever asks for them."""
    here = installed(LIBRARIES)
    differing = [name for name, version in wanted.items() if here.get(name) != version]
    if differing:
        told = ", ".join(
            f"{name} {here.get(name) or 'missing'} instead of {wanted[name]}" for name in differing
        )
        raise ModelMismatch(
            f"a worker has other libraries than the build: {told}. Install the same ones; the "
            "index would not be the same otherwise."
        )
