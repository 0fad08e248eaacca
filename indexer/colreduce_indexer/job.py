"""One batch build: survey the source, fit the recipe, make piece after piece, show all of it.

The index appears with all documents or not at all. A build that is stopped, by whatever it may be,
keeps what it has finished; the same call goes on there, and the index it makes in the end is the
same, byte for byte, as if nothing had happened.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from colreduce.device import chosen as on_device
from colreduce.embed import Encoder, reads_pages
from colreduce.errors import BadInput, Locked, Stopped
from colreduce.evaluate.fidelity import Best, LedgerMaker
from colreduce.evaluate.held_out import Asking, draw, given
from colreduce.index import Index
from colreduce.index.ledger import LEDGER, kept_ledger
from colreduce.index.making import Making
from colreduce.ragged import Ragged
from colreduce.store import Staging, Unfinished, unfinished
from colreduce.store.creation import require_vacant
from colreduce_indexer.executors.base import WATCHED, Executor, Job, Made, Work
from colreduce_indexer.executors.inline import Inline
from colreduce_indexer.plan import (
    ASKING,
    BLOCKS,
    MEASURED,
    Plan,
    Settings,
    cuts_of,
    plan_of,
    require_same,
    written,
)
from colreduce_indexer.progress import Meter, Silence, Teller
from colreduce_indexer.rejects import Rejects
from colreduce_indexer.sources import Source
from colreduce_indexer.stages import Clock, ahead, encoded, windows, with_vectors
from colreduce_indexer.survey import Survey, survey

# Pages in the sample, which are encoded twice; they have a thousand vectors each to learn from.
PAGES = 128

# The generation in which a built index appears.
SHOWN = 1

SILENCE = Silence()


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made, and the seconds that each stage took in this process.

    digest    one SHA-256 for the segments and for what the methods learned
    rejected  how many records were left out
    pieces    how many there are, and how many of them were found finished
    """

    description: dict[str, Any]
    seconds: dict[str, float]
    digest: str
    rejected: int
    pieces: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "format": 1,
            "index_seconds": self.seconds,
            "digest": self.digest,
            "rejected": self.rejected,
            "pieces": self.pieces,
            **self.description,
        }


def build(
    source: Source,
    out: Path,
    settings: Settings,
    *,
    encoder: Encoder | None = None,
    rejects_file: Path | None = None,
    teller: Teller = SILENCE,
    executor: Executor | None = None,
) -> Built:
    """Build an index of a source in a new folder, or go on with the build that was begun there.

    rejects_file  where the records that were left out are told; beside the folder if not given
    executor      who makes the pieces; this process if nobody is given
    """
    on_device(settings.device)  # one that is not there is an error before anything is read
    begun = find_begun(out, settings.resume)
    clock = Clock()
    told = rejects_file or out.with_name(f"{out.name}.rejects.jsonl")
    if begun is None:
        making, plan = _founded(source, out, settings, encoder, told, teller, clock)
    else:
        making, plan = _resumed(begun, source, out, settings, encoder, teller)
    with making:
        before = len(making.staging.numbers())
        try:
            if not making.index.generation:
                there = making.staging.numbers()
                done = sum(map(plan.cuts.size, there))
                size = sum(map(making.staging.bytes, there))
                meter = Meter(teller, clock, plan.cuts, done, size)
                job = _job(making, plan, encoder)
                _make_pieces(making, plan, source, executor or Inline(), job, meter)
                _publish(making, plan, teller, clock)
            _measure(making, plan, settings.seed, clock)
            making.staging.clear()
        except KeyboardInterrupt:
            raise Stopped(_kept(making, plan)) from None
        except BaseException:
            teller.remark(_kept(making, plan))
            raise
        pieces = {"all": plan.cuts.pieces, "found": before}
        digest = making.index.view.snapshot.digest_without(LEDGER)
        described = making.index.describe()
        return Built(described, clock.seconds, digest, len(plan.rejected), pieces)


def find_begun(out: Path, resume: bool = True) -> Unfinished | None:
    """Return the build that was begun in a folder; refuse what stands there otherwise."""
    begun = unfinished(out)
    if begun is not None and begun.holder is not None:
        raise Locked(
            f"process {begun.holder} is building {out}: 'colreduce inspect {out}' says how far "
            "it is. Wait until it has finished, or stop it to go on here."
        )
    if begun is None or not resume:
        require_vacant(out, begun=True)
        return None
    return begun


def _founded(
    source: Source,
    out: Path,
    settings: Settings,
    encoder: Encoder | None,
    rejects_file: Path,
    teller: Teller,
    clock: Clock,
) -> tuple[Making, Plan]:
    """Survey the source, let the methods learn, and write down what is going to be built."""
    with clock.running("check"):
        found = _thinned(_survey(source, settings, rejects_file, teller), encoder)
    with clock.running("fit"):
        sample = _sample(found, encoder, settings.batch_size)
        cuts = cuts_of(found, sample, settings)
        fixed = settings.config(encoder, sample.dim)
        making = Making.begin(out, fixed, encoder, on_device(settings.device))
        try:
            making.index.fit(sample, found.sample.texts)
            asking = _asking(found, sample, settings, encoder)
            record, arrays = written(source, settings, found, cuts, asking)
            making.found(record, arrays)
        except BaseException:
            making.close()
            raise
    teller.event("begun", {"documents": cuts.documents, "pieces": cuts.pieces})
    return making, plan_of(record, arrays)


def _asking(
    found: Survey, sample: Ragged, settings: Settings, encoder: Encoder | None
) -> Asking | None:
    """Return the queries that losses are measured on: given ones, or some that are drawn."""
    if settings.queries is not None:
        if encoder is None:
            raise BadInput(
                f"{settings.queries} holds texts, and there is no encoder to ask them with. Leave "
                "the queries out, or give an encoder.",
                field="queries",
            )
        return given(settings.queries, settings.split, encoder, settings.seed)
    if settings.ledger or (settings.ledger is None and found.documents <= MEASURED):
        return draw(found.sample.ids, sample, found.sample.texts, encoder, settings.seed)
    return None


def _survey(source: Source, settings: Settings, rejects_file: Path, teller: Teller) -> Survey:
    rejects = Rejects(settings.max_rejects)
    try:
        found = survey(
            source,
            seed=settings.seed,
            block=settings.block,
            limit=settings.limit,
            rejects=rejects,
            told=lambda done: teller.progress("read", done, 0),
        )
    finally:
        if rejects.found and settings.max_rejects:
            rejects.write(rejects_file)
    teller.progress("read", found.documents, found.documents)
    if rejects.found:
        teller.remark(f"{len(rejects.found):,} records are left out: see {rejects_file}")
    return found


def _thinned(found: Survey, encoder: Encoder | None) -> Survey:
    """Leave fewer documents in the sample where they are pages, each of which takes long."""
    if encoder is None or not reads_pages(encoder):
        return found
    count = len(found.sample)
    chosen = list(range(0, count, -(-count // PAGES)))
    return replace(found, sample=found.sample.take(chosen))


def _sample(found: Survey, encoder: Encoder | None, batch_size: int) -> Ragged:
    vectors = with_vectors(found.sample, encoder, batch_size).vectors
    assert vectors is not None
    return vectors


def _resumed(
    begun: Unfinished,
    source: Source,
    out: Path,
    settings: Settings,
    encoder: Encoder | None,
    teller: Teller,
) -> tuple[Making, Plan]:
    """Go on with a build, if it is the same that is asked for."""
    record = begun.record
    require_same(record, source, settings, encoder, lambda done: teller.progress("read", done, 0))
    making = Making.resume(out, record, encoder, on_device(settings.device))
    try:
        making.staging.drop_damaged()
        names = [name for name in (BLOCKS, ASKING) if name in record["files"]]
        plan = plan_of(record, {name: making.staging.arrays(record, name) for name in names})
    except BaseException:
        making.close()
        raise
    done = len(making.staging.numbers())
    teller.event("resumed", {"pieces": plan.cuts.pieces, "found": done})
    teller.remark(f"going on with a build: {done:,} of {plan.cuts.pieces:,} pieces are there")
    return making, plan


def _kept(making: Making, plan: Plan) -> str:
    done, every = len(making.staging.numbers()), plan.cuts.pieces
    return (
        f"The build in {making.index.path} has stopped; {done:,} of {every:,} pieces are "
        "finished and kept. The same command goes on with it."
    )


def _make_pieces(
    making: Making, plan: Plan, source: Source, executor: Executor, job: Job, meter: Meter
) -> None:
    """Let every piece be made that is not there yet, and keep what comes."""
    cuts, staging = plan.cuts, making.staging
    there = set(staging.numbers())
    missing = [number for number in range(cuts.pieces) if number not in there]
    best = None if plan.asking is None else Best.none(making.index.recipe, plan.asking)
    with (
        ahead(lambda: windows(source, cuts, missing, plan.rejected, meter.clock)) as stream,
        closing(executor.made(job, stream, meter)) as pieces,
    ):
        for made in pieces:
            if not _keep(staging, made, meter.clock):
                continue
            if best is not None and made.best is not None:
                best = best.followed_by(made.best)
                meter.loss = best.loss
            meter.piece(made.number, staging.bytes(made.number))
    staging.sweep()


def _job(making: Making, plan: Plan, encoder: Encoder | None) -> Job:
    work = Work(making.config, making.index.pipeline, plan.asking, plan.batch_size, plan.cuts.piece)
    return Job(work, encoder, making.bench, making.segments)


def _keep(staging: Staging, made: Made, clock: Clock) -> bool:
    """Keep a piece; False if it is there already, because two have made it."""
    with clock.running("write"):
        if made.files is not None:
            return staging.receive(made.number, made.files, made.sha256)
        assert made.folder is not None, "a piece lies in a folder, or its files have come along"
        return staging.take(made.number, made.folder, made.sha256)


def _publish(making: Making, plan: Plan, teller: Teller, clock: Clock) -> None:
    """Put the pieces together into segments and show them."""
    every = plan.cuts.pieces
    groups = [
        range(first, min(first + plan.segment, every)) for first in range(0, every, plan.segment)
    ]
    with clock.running("publish"):
        making.publish(groups, lambda done: teller.progress("publish", done, every))


def _measure(making: Making, plan: Plan, seed: int, clock: Clock) -> None:
    """Complete the ledger by what the finished index answers.

    An index that was shown, and changed before its build went on, has no ledger to be completed.
    """
    index: Index = making.index
    known = kept_ledger(index.view.snapshot) is not None
    if plan.asking is None or known or index.generation > SHOWN:
        return
    watched = clock.seconds.get("ledger", 0.0)
    with clock.running("ledger"):
        maker = LedgerMaker(index, plan.asking)
        for number in range(plan.cuts.pieces):
            piece = making.staging.open(number)
            names = [name for name in piece.arrays if name.startswith(WATCHED)]
            kept = {name.removeprefix(WATCHED): piece.arrays[name] for name in names}
            maker.take(Best(**kept), piece.rows)
        maker.finish(seed, watched)


def add_all(
    index: Index,
    source: Source,
    settings: Settings,
    *,
    encoder: Encoder | None,
    rejects_file: Path,
    teller: Teller = SILENCE,
) -> dict[str, float]:
    """Survey a source, then add all of it to an index in one commit; return seconds by stage."""
    clock = Clock()
    with clock.running("check"):
        found = _thinned(_survey(source, settings, rejects_file, teller), encoder)
        sample = _sample(found, encoder, settings.batch_size)
        cuts = cuts_of(found, sample, settings)
    meter = Meter(teller, clock, cuts, 0, 0)
    every = range(cuts.pieces)
    with index.batch() as batch, ExitStack() as threads:
        read = threads.enter_context(
            ahead(lambda: windows(source, cuts, every, found.rejected, clock))
        )
        given = threads.enter_context(
            ahead(lambda: encoded(read, encoder, settings.batch_size, index.dim, clock))
        )
        for window in given:
            some = window.documents
            batch.add(
                some.ids,
                some.texts,
                embeddings=window.vectors,
                metadata=some.metadata,
                pictures=some.pictures,
            )
            meter.window(window)
        started = perf_counter()
    return {**clock.seconds, **batch.seconds, "publish": perf_counter() - started}
