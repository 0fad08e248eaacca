"""Pieces made by actors of Ray, on one machine or on many.

Ray places the actors, starts them again where there is room when one dies, and gives their pieces
out again. What a piece is, and which pieces there are, it does not know: that is written down where
the index is. A machine of the cluster needs colreduce and the model, and neither the source nor the
disk of the index: documents go to it with the piece, and the piece's bytes come back.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from colreduce.cluster import joined
from colreduce.errors import BadInput, ColreduceError, Unavailable
from colreduce.store import Workshop, fs, taken_along
from colreduce_indexer.executors.base import Brief, Job, Made, Maker, Order, orders
from colreduce_indexer.executors.processes import PATIENCE, told
from colreduce_indexer.progress import Meter
from colreduce_indexer.stages import Window, ahead

# How often Ray gives out a piece again whose actor has died, while it made it or before.
RETRIES = 10

# Pieces that an actor has at once: one in the making, one that waits for it.
AT_ONCE = 2


# A folder of an actor that is gone stays so many seconds: its process may be in another container.
FORSAKEN = 3600.0
_OWN = re.compile(r"colreduce-(\d+)-[0-9a-f]{16}")


class OnRay:
    """Actors in a cluster."""

    def __init__(
        self, address: str, workers: int = 0, gpus: float = 0.0, device: str = "auto"
    ) -> None:
        """``address`` is what ``ray start`` has told, or ``local`` for a cluster of this machine.

        workers  how many actors; 0 for as many as there is room for
        gpus     the share of a GPU that each of them takes
        device   where each of them loads the model
        """
        if workers < 0 or gpus < 0:
            raise BadInput("wanted 0 or more workers, and 0 or more GPUs for each", field="workers")
        self.address = address
        self.workers = workers
        self.gpus = gpus
        self.device = device

    def made(self, job: Job, stream: Iterable[Window], meter: Meter) -> Generator[Made, None, None]:
        """Make the pieces in whatever order they are finished."""
        with joined(self.address) as ray, ahead(lambda: orders(stream)) as waiting:
            brief = ray.put(Brief.of(job, self.device))
            actors = [
                ray.remote(Hand)
                .options(num_cpus=1, num_gpus=self.gpus, max_restarts=-1, max_task_retries=RETRIES)
                .remote()
                for _ in range(self.workers or self._room(ray))
            ]
            try:
                yield from _handed_out(ray, brief, actors, waiting, meter)
                tidied = [actor.tidy.options(max_task_retries=0).remote() for actor in actors]
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


class Hand:
    """An actor: loads the model once, and makes pieces in a folder of its own machine."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._folder = _own_folder()
        self._maker: Maker | None = None

    def make(self, brief: Brief, order: Order) -> Made | ColreduceError:
        """Make one piece and hand over its bytes, or say what went wrong."""
        try:
            if self._maker is None:
                self._maker = Maker(brief, Workshop(self._folder))
            made = self._maker.make(order)
            assert made.folder is not None
            return replace(made, folder=None, files=taken_along(made.folder))
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


def _handed_out(
    ray: Any, brief: Any, actors: list[Any], waiting: Iterator[Order], meter: Meter
) -> Iterator[Made]:
    """Keep every actor busy, and yield what they make."""
    running: dict[Any, tuple[Any, int]] = {}
    free = [actor for _ in range(AT_ONCE) for actor in actors]
    while True:
        while free and (order := next(waiting, None)) is not None:
            meter.begun_piece(order.number)
            actor = free.pop(0)
            running[actor.make.remote(brief, order)] = (actor, order.number)
        if not running:
            return
        [done], _ = ray.wait(list(running), num_returns=1)
        actor, number = running.pop(done)
        free.append(actor)
        made = _got(ray, done, number)
        meter.advanced(made.documents, made.vectors)
        for stage, seconds in made.seconds.items():
            meter.clock.add(stage, seconds)
        yield made


def _got(ray: Any, done: Any, number: int) -> Made:
    try:
        answer: Made | ColreduceError = ray.get(done)
    except ray.exceptions.RayError as problem:
        raise ColreduceError(
            f"piece {number} could not be made, after {RETRIES} attempts: {problem}"
        ) from problem
    if isinstance(answer, ColreduceError):
        raise answer
    return answer
