"""Pieces made by several processes on this machine, which take over those of one that dies.

Each loads the model once, computes in one thread, and is given one piece at a time. What it makes
it leaves on the disk of the index; this process alone decides what is kept.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from colreduce.errors import ColreduceError
from colreduce.store import Workshop
from colreduce_indexer.executors.base import (
    Brief,
    Job,
    Made,
    Maker,
    Order,
    orders,
    require_workers,
)
from colreduce_indexer.progress import Meter
from colreduce_indexer.stages import Window, ahead

log = logging.getLogger(__name__)

# A piece that its process did not survive so often is at fault itself: too large for the memory.
MOST_DEATHS = 6

# Libraries that compute read these when they are loaded.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

# Seconds that a process has to end by itself.
PATIENCE = 5.0


class Processes:
    """Several processes on this machine."""

    def __init__(self, workers: int, device: str = "auto") -> None:
        """``device`` is where each of them loads the model."""
        require_workers(workers)
        self.workers = workers
        self.device = device

    def made(self, job: Job, stream: Iterable[Window], meter: Meter) -> Generator[Made, None, None]:
        """Make the pieces in whatever order they are finished."""
        crew = Crew(Brief.of(job, self.device), job.folder, self.workers, meter)
        try:
            with ahead(lambda: orders(stream)) as waiting:
                yield from crew.made(waiting)
        finally:
            crew.close()


class Crew:
    """The processes, and which piece each of them is making."""

    def __init__(self, brief: Brief, folder: Path, workers: int, meter: Meter) -> None:
        self._brief = brief
        self._folder = folder
        self._meter = meter
        self._again: deque[Order] = deque()
        self._deaths: Counter[int] = Counter()
        self.members = [Member(brief, folder) for _ in range(workers)]

    def made(self, waiting: Iterator[Order]) -> Iterator[Made]:
        """Hand out every order until all of them are done."""
        while True:
            for member in self.members:
                if member.order is None:
                    self._give(member, waiting)
            busy = {one.pipe: one for one in self.members if one.order is not None}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                made = self._heard(busy[pipe])  # type: ignore[index]
                if made is not None:
                    self._meter.advanced(made.documents, made.vectors)
                    for stage, seconds in made.seconds.items():
                        self._meter.clock.add(stage, seconds)
                    yield made

    def close(self) -> None:
        """End all processes."""
        for member in self.members:
            member.end()

    def _give(self, member: Member, waiting: Iterator[Order]) -> None:
        order = self._again.popleft() if self._again else next(waiting, None)
        if order is not None:
            self._meter.begun_piece(order.number)
            member.give(order)

    def _heard(self, member: Member) -> Made | None:
        """Return what a process has made; None if it has died, and another takes its place."""
        order = member.order
        assert order is not None
        answer = member.answer()
        if isinstance(answer, Made):
            member.order = None
            return answer
        if isinstance(answer, BaseException):
            raise answer
        self._deaths[order.number] += 1
        if self._deaths[order.number] >= MOST_DEATHS:
            raise ColreduceError(
                f"piece {order.number} ended its process {MOST_DEATHS} times. Was there enough "
                "memory? Give fewer --workers, or less --memory to each and --no-resume."
            )
        log.warning("a worker died while it made piece %d; another one makes it", order.number)
        self._again.append(order)
        member.end()
        self.members[self.members.index(member)] = Member(self._brief, self._folder)
        return None


class Member:
    """One process, as the one that started it sees it."""

    def __init__(self, brief: Brief, folder: Path) -> None:
        self.order: Order | None = None
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, brief, folder), name="colreduce worker", daemon=True
        )
        with _environment(ONE_THREAD):
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def give(self, order: Order) -> None:
        """Hand over one order; a process that is dead is found out when its answer is read."""
        self.order = order
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(order)

    def answer(self) -> Any:
        """Return what it made, or what went wrong; None if it is dead."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return None

    def end(self) -> None:
        """Let it go, and see to it that it goes."""
        self.pipe.close()
        if self.order is not None:
            self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.process.close()


def work(pipe: connection.Connection, brief: Brief, folder: Path) -> None:
    """Make what is ordered until nobody is there any more to order it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; who started us decides
    torch.set_num_threads(1)
    maker: Maker | None = None
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        try:
            if maker is None:
                maker = Maker(brief, Workshop(folder))
            answer: Any = maker.make(order)
        except Exception as problem:
            answer = told(problem, order.number)
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return


def told(problem: Exception, number: int) -> ColreduceError:
    """Return an error as one that can travel."""
    if isinstance(problem, ColreduceError):
        return problem
    log.exception("piece %d failed", number)
    return ColreduceError(f"a worker failed at piece {number}: {type(problem).__name__}: {problem}")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables that a process to be started shall find."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
