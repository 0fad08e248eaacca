"""Pieces made by actors of Ray, on one machine or on many.

Ray places the actors, and starts them again where there is room when one dies. What a piece is, and
which pieces there are, it does not know: that is written down where the index is, and what is lost
with an actor is given to another one. A machine of the cluster needs colreduce and the model, and
neither the source nor the disk of the index: documents go to it with the piece, and the piece's
bytes come back, by Ray or through object storage.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import tempfile
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from colreduce.cluster import joined
from colreduce.errors import BadInput, ColreduceError, NotFound, Unavailable
from colreduce.store import Workshop, fs, taken_along
from colreduce_indexer.exchange import Exchange, leave
from colreduce_indexer.executors.base import Brief, Job, Made, Maker, Order, orders
from colreduce_indexer.executors.processes import PATIENCE, told
from colreduce_indexer.progress import Meter
from colreduce_indexer.stages import Window, ahead

log = logging.getLogger(__name__)

# How often a piece may be lost with its actor, which was making it or had it waiting.
MOST_LOST = 10

# Seconds without an answer of any actor after which a build gives up.
NOBODY = 600.0

# Seconds before an actor that did not answer is asked again.
PAUSE = 0.2

# Pieces that an actor has at once: one in the making, one that waits for it.
AT_ONCE = 2

# A folder of an actor that is gone stays so many seconds: its process may be in another container.
FORSAKEN = 3600.0
_OWN = re.compile(r"colreduce-(\d+)-[0-9a-f]{16}")


class OnRay:
    """Actors in a cluster."""

    def __init__(
        self,
        address: str,
        workers: int = 0,
        gpus: float = 0.0,
        device: str = "auto",
        exchange: str = "",
    ) -> None:
        """``address`` is what ``ray start`` has told, or ``local`` for a cluster of this machine.

        workers   how many actors; 0 for as many as there is room for
        gpus      the share of a GPU that each of them takes
        device    where each of them loads the model
        exchange  the URL of object storage that finished pieces go through; none for Ray's own
        """
        if workers < 0 or gpus < 0:
            raise BadInput("wanted 0 or more workers, and 0 or more GPUs for each", field="workers")
        self.address = address
        self.workers = workers
        self.gpus = gpus
        self.device = device
        self.exchange = exchange

    def made(self, job: Job, stream: Iterable[Window], meter: Meter) -> Generator[Made, None, None]:
        """Make the pieces in whatever order they are finished."""
        with (
            _exchange(self.exchange) as exchange,
            joined(self.address) as ray,
            ahead(lambda: orders(stream)) as waiting,
        ):
            brief = ray.put(Brief.of(job, self.device, exchange.url if exchange else ""))
            actors = [
                ray.remote(Hand).options(num_cpus=1, num_gpus=self.gpus, max_restarts=-1).remote()
                for _ in range(self.workers or self._room(ray))
            ]
            try:
                yield from Crew(ray, brief, actors, meter, exchange).made(waiting)
                tidied = [actor.tidy.remote() for actor in actors]
                ray.wait(tidied, num_returns=len(tidied), timeout=PATIENCE)
            finally:
                for actor in actors:
                    ray.kill(actor)

    def _room(self, ray: Any) -> int:
        """Return how many actors the cluster has room for."""
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0))
        if self.gpus:
            room = min(room, int(there.get("GPU", 0) / self.gpus + 1e-9))
        if room < 1:
            raise Unavailable(
                f"the cluster has no room for a worker with one processor and {self.gpus:g} GPUs: "
                f"it has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}"
            )
        return room


@contextmanager
def _exchange(url: str) -> Iterator[Exchange | None]:
    """Open the exchange, if there is to be one, and leave nothing in it."""
    exchange = Exchange(url) if url else None
    try:
        yield exchange
    finally:
        if exchange is not None:
            exchange.close()


class Hand:
    """An actor: loads the model once, and makes pieces in a folder of its own machine."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._folder = _own_folder()
        self._maker: Maker | None = None

    def ready(self) -> None:
        """Answer, which shows that it is there."""

    def make(self, brief: Brief, order: Order) -> Made | ColreduceError:
        """Make one piece and hand over its bytes, or say what went wrong."""
        try:
            if self._maker is None:
                self._maker = Maker(brief, Workshop(self._folder))
            made = self._maker.make(order)
            assert made.folder is not None
            files = taken_along(made.folder)
            if not brief.exchange:
                return replace(made, folder=None, files=files)
            return replace(made, folder=None, left=leave(brief.exchange, order.number, files))
        except Exception as problem:
            return told(problem, order.number)

    def tidy(self) -> None:
        """Leave nothing behind on this machine."""
        fs.rmtree(self._folder)


def _own_folder() -> Path:
    """Make a folder that nobody else can have made before; remove those of actors that died."""
    for entry in fs.list_entries(Path(tempfile.gettempdir())):
        named = _OWN.fullmatch(entry.name)
        if named and entry.is_dir(follow_symlinks=False) and _forsaken(entry, int(named[1])):
            with suppress(OSError):  # another actor removes it, too
                fs.rmtree(Path(entry.path))
    folder = Path(tempfile.gettempdir()) / f"colreduce-{os.getpid()}-{secrets.token_hex(8)}"
    fs.mkdir(folder)
    return folder


def _forsaken(entry: os.DirEntry[str], process: int) -> bool:
    """Say whether a folder is ours, old, and of a process that is not there any more."""
    told = entry.stat(follow_symlinks=False)
    if told.st_uid != os.getuid() or time.time() - told.st_mtime < FORSAKEN:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Crew:
    """The actors of one build, and the orders that each of them has.

    An actor is given orders only after it has answered, the first time as well as after it died:
    one for which there is no room in the cluster would keep them for ever.
    """

    def __init__(
        self,
        ray: Any,
        brief: Any,
        actors: Sequence[Any],
        meter: Meter,
        exchange: Exchange | None = None,
    ) -> None:
        self._ray = ray
        self._exchange = exchange
        self._brief = brief
        self._meter = meter
        self._running: dict[Any, tuple[Any, Order]] = {}
        self._asked = {actor.ready.remote(): actor for actor in actors}  # whether they are there
        self._there: list[Any] = []
        self._again: deque[Order] = deque()
        self._lost: Counter[int] = Counter()

    def made(self, waiting: Iterator[Order]) -> Iterator[Made]:
        """Hand out every order until all of them are done."""
        heard = time.monotonic()
        while True:
            more = self._hand_out(waiting)
            if not (more or self._running or self._again):
                return
            refs = [*self._running, *self._asked]
            done, _ = self._ray.wait(refs, num_returns=1, timeout=PATIENCE)
            if done or self._there:
                heard = time.monotonic()
            elif time.monotonic() - heard > NOBODY:
                raise Unavailable(f"no worker of the cluster has answered for {NOBODY:.0f} seconds")
            for ref in done:
                if ref in self._asked:
                    self._answered(ref)
                elif (made := self._got(ref)) is not None:
                    self._meter.advanced(made.documents, made.vectors)
                    for stage, seconds in made.seconds.items():
                        self._meter.clock.add(stage, seconds)
                    yield made

    def _hand_out(self, waiting: Iterator[Order]) -> bool:
        """Give every actor that is there what it can take; return whether there may be more."""
        busy = Counter(id(actor) for actor, _ in self._running.values())
        for _ in range(AT_ONCE):
            for actor in self._there:
                if busy[id(actor)] >= AT_ONCE:
                    continue
                order = self._again.popleft() if self._again else next(waiting, None)
                if order is None:
                    return False
                busy[id(actor)] += 1
                self._meter.begun_piece(order.number)
                self._running[actor.make.remote(self._brief, order)] = (actor, order)
        return True

    def _answered(self, ref: Any) -> None:
        """Note that an actor is there, or ask it again."""
        actor = self._asked.pop(ref)
        try:
            self._ray.get(ref)
        except self._ray.exceptions.ActorDiedError as problem:  # it will not be started again
            if not (self._there or self._asked):
                raise Unavailable(f"no worker could be started: {problem}") from problem
        except self._ray.exceptions.RayError:
            time.sleep(PAUSE)
            self._asked[actor.ready.remote()] = actor
        else:
            self._there.append(actor)

    def _got(self, ref: Any) -> Made | None:
        """Return what was made; None if that was lost, and is to be made again."""
        actor, order = self._running.pop(ref)
        try:
            answer: Made | ColreduceError = self._ray.get(ref)
        except self._ray.exceptions.RayError as problem:
            self._make_again(order, problem)
            if actor in self._there:
                self._there.remove(actor)
                self._asked[actor.ready.remote()] = actor
            return None
        if isinstance(answer, ColreduceError):
            raise answer
        return self._fetched(answer, order)

    def _fetched(self, made: Made, order: Order) -> Made | None:
        """Take a piece out of the exchange; None if it is not there any more."""
        if made.left is None or self._exchange is None:
            return made
        try:
            files = self._exchange.take(made.left)
        except (NotFound, Unavailable) as problem:
            self._make_again(order, problem)
            return None
        self._exchange.drop(made.left)
        return replace(made, left=None, files=files)

    def _make_again(self, order: Order, problem: Exception) -> None:
        """Note that a piece was lost on its way, and give up if that happened too often."""
        self._lost[order.number] += 1
        if self._lost[order.number] >= MOST_LOST:
            raise ColreduceError(
                f"piece {order.number} was lost {MOST_LOST} times, the last time so: {problem}"
            ) from problem
        log.warning("piece %d was lost; it is made again: %s", order.number, problem)
        self._again.append(order)
