"""Pieces made in this process, every stage in a thread of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from itertools import groupby

from colreduce_indexer.executors.base import Job, Made, make_piece
from colreduce_indexer.progress import Meter
from colreduce_indexer.stages import Window, ahead, encoded, reduced


class Inline:
    """This process alone."""

    def made(self, job: Job, stream: Iterable[Window], meter: Meter) -> Generator[Made, None, None]:
        """Make the pieces in their order; while one window is encoded, the last is reduced."""
        work, clock = job.work, meter.clock
        with ExitStack() as threads:
            given = threads.enter_context(
                ahead(lambda: encoded(iter(stream), job.encoder, work.batch_size, work.dim, clock))
            )
            passed = threads.enter_context(ahead(lambda: reduced(given, work.pipeline, clock)))
            for number, windows in groupby(passed, key=lambda window: window.piece):
                meter.begun_piece(number)
                yield make_piece(number, windows, job.bench, work, clock, meter)
