"""Asking all shards at once, and joining what they say.

Every shard is asked through one of its replicas. Another one is asked as well when that fails, when
it takes longer than nearly all replicas have taken lately, or when half of the time is over. A
shard that nobody answers for in time is missing, and the answer says so. One that nobody has
answered for lately is not waited for to the end: everybody would wait for it with every query.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from colreduce.errors import BadInput, ColreduceError, NotAnIndex, NotFound, Unavailable
from colreduce.index import Hit
from colreduce_service.shards.replica import Question, Reply, Size

log = logging.getLogger(__name__)

# Seconds for which a replica that has failed is asked only where there is no other.
RESTING = 1.0

# Seconds for which a shard is waited for whose replicas have all failed lately; more where searches
# take more.
DOUBTED_SECONDS = 0.25

# Seconds between two looks at whether anybody still waits.
LOOK_SECONDS = 0.05

# This share of the time is kept to join the answers and to send them.
RESERVE = 0.05

# A replica is slow that has taken longer than this share of the last so many; and never before so
# many seconds, since a second question for everything would only be more work for all.
SLOW, LATELY, AT_LEAST = 0.95, 512, 0.01

# Seconds that looking after one replica may take.
UPKEEP_SECONDS = 10.0


class Handle(Protocol):
    """A way to one replica."""

    def ask(self, method: str, *arguments: Any) -> Future[Any]:
        """Let it do something; the future fails where the replica does."""

    def end(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What all shards have found together.

    hits     for every question, as one index would give them
    missing  the numbers of the shards that did not answer
    seconds  by stage, of the slowest shard
    cost     documents that were scored, times the vectors they were scored with
    """

    hits: list[list[Hit]]
    missing: tuple[int, ...]
    seconds: dict[str, float]
    cost: float


@dataclass(slots=True)
class _Asking:
    """One shard while it is asked.

    left   replicas that were not asked yet, the best one first
    again  when another one is asked if none has answered
    end    until when it is waited for
    """

    left: list[int]
    again: float
    end: float
    running: int = 0
    reply: Any = None


@dataclass
class Hub:
    """The replicas of every shard: ``handles[shard][replica]``."""

    handles: Sequence[Sequence[Handle]]
    generations: list[int] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    silent: frozenset[int] = frozenset()  # shards that did not answer when they were asked last

    def __post_init__(self) -> None:
        self.generations = [0] * len(self.handles)
        self.documents = [0] * len(self.handles)
        self._turn = itertools.count()
        self._inside = 0
        self._taken: deque[float] = deque(maxlen=LATELY)
        self._counting = threading.Lock()
        self._resting: dict[tuple[int, int], float] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._inside

    def answer(
        self, questions: Sequence[Question], seconds: float, check: Callable[[], None]
    ) -> Merged:
        """Ask all shards; raise what the question itself is at fault for.

        ``check`` is called while they work, and raises when nobody waits for the answer.
        """
        left = seconds * (1 - RESERVE)
        every = range(len(self.handles))
        with self._entered():
            sent = (questions, left, time.time() + left)
            replies = self._ask(every, "answer", sent, left, check, self._patience(left))
        found: dict[int, Reply] = {
            one: reply for one, reply in replies.items() if reply is not None
        }
        self.silent = frozenset(every) - frozenset(found)
        if not found:
            raise Unavailable("none of the shards has answered in time: try again")
        for shard, reply in found.items():
            self.generations[shard] = max(self.generations[shard], reply.generation)
        stages = {stage for reply in found.values() for stage in reply.seconds}
        slowest = {
            stage: max(reply.seconds.get(stage, 0.0) for reply in found.values())
            for stage in sorted(stages)
        }
        merged = [
            merge([reply.hits[place] for reply in found.values()], one.k)
            for place, one in enumerate(questions)
        ]
        cost = sum(
            len(one.vectors) * reply.scored[place]
            for reply in found.values()
            for place, one in enumerate(questions)
        )
        return Merged(merged, tuple(sorted(self.silent)), slowest, float(cost))

    def of_one(
        self, shard: int, method: str, *arguments: Any, seconds: float, check: Callable[[], None]
    ) -> Any:
        """Ask one shard for something that only it knows."""
        [reply] = self._ask([shard], method, arguments, seconds, check).values()
        if reply is None:
            raise Unavailable(f"shard {shard} does not answer: try again")
        return reply

    def of_all(self, method: str, seconds: float) -> list[Any]:
        """Ask every shard; `Unavailable` if one does not answer."""
        every = range(len(self.handles))
        replies = self._ask(every, method, (), seconds, lambda: None)
        missing = [shard for shard, reply in replies.items() if reply is None]
        if missing:
            raise Unavailable(f"shard {missing[0]} does not answer: try again")
        return [replies[shard] for shard in every]

    def open(self, seconds: float, at_most: float) -> None:
        """Let all replicas open their shards at once; what has not by then is asked later.

        Shards of which no replica has answered are waited for until ``at_most``.
        """
        began = time.monotonic()
        end = began + seconds
        asked = {one: self.handles[one[0]][one[1]].ask("refresh") for one in self._places()}
        heard = {
            shard
            for (shard, place), future in asked.items()
            if self._noted(shard, place, future, max(end - time.monotonic(), 0.0))
        }
        for shard in set(range(len(self.handles))) - heard:
            late = {
                future: place
                for (one, place), future in asked.items()
                if one == shard and not future.done()
            }
            if self._first_noted(shard, late, began + at_most):
                heard.add(shard)
        self.silent = frozenset(range(len(self.handles))) - heard

    def refresh(self) -> None:
        """Let the replicas take over what is new, one after the other, so that others answer."""
        heard: set[int] = set()
        for shard, place in self._places():
            # Nobody is to wait for long for what may be dead.
            seconds = RESTING if (shard, place) in self._resting else UPKEEP_SECONDS
            future = self.handles[shard][place].ask("refresh")
            if self._noted(shard, place, future, seconds):
                heard.add(shard)
        self.silent = frozenset(range(len(self.handles))) - heard

    def close(self) -> None:
        """Let go of all replicas."""
        for replicas in self.handles:
            for one in replicas:
                one.end()

    def _patience(self, left: float) -> float:
        """Return how long one replica is waited for alone."""
        return min(max(self._usual(), AT_LEAST) if self._known else left / 2, left / 2)

    @property
    def _known(self) -> bool:
        return len(self._taken) >= LATELY // 8

    def _usual(self) -> float:
        """Return how long nearly all replicas have taken lately at most; 0 if that is not known."""
        return sorted(self._taken)[int(SLOW * len(self._taken))] if self._known else 0.0

    def _waited_for(self, shard: int, seconds: float) -> float:
        """Return how long a shard is waited for out of so many seconds."""
        if all((shard, place) in self._resting for place in range(len(self.handles[shard]))):
            return min(max(self._usual(), DOUBTED_SECONDS), seconds)
        return seconds

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self._counting:
            self._inside += 1
        try:
            yield
        finally:
            with self._counting:
                self._inside -= 1

    def _places(self) -> list[tuple[int, int]]:
        """Return all replicas, the first of every shard before the second of any."""
        return [
            (shard, place)
            for place in range(max(map(len, self.handles)))
            for shard, replicas in enumerate(self.handles)
            if place < len(replicas)
        ]

    def _first_noted(self, shard: int, waiting: dict[Future[Any], int], end: float) -> bool:
        """Wait until one of a shard's replicas says how far it is; False if none does in time."""
        while waiting:
            done, _ = wait(waiting, max(end - time.monotonic(), 0.0), FIRST_COMPLETED)
            if any([self._noted(shard, waiting.pop(future), future, 0.0) for future in done]):
                return True
            if not done:
                return False
        return False

    def _noted(self, shard: int, place: int, future: Future[Any], seconds: float) -> bool:
        """Note how far a replica is; False if it does not say."""
        try:
            told = future.result(seconds)
        except TimeoutError:
            told = TimeoutError("not in time")
        except Exception as problem:  # whatever a cluster may raise: it is asked again in a second
            told = problem
        if isinstance(told, Size):
            if told.generation >= self.generations[shard]:
                self.generations[shard], self.documents[shard] = told.generation, told.documents
            self._well(shard, place)
            return True
        self._rest(shard, place, told)
        return False

    def _ask(
        self,
        shards: Sequence[int],
        method: str,
        arguments: tuple[Any, ...],
        seconds: float,
        check: Callable[[], None],
        patience: float | None = None,
    ) -> dict[int, Any]:
        """Return the reply of every shard; None for one that nobody answers for in time.

        patience  seconds that one replica is waited for alone
        """
        began = time.monotonic()
        end = began + seconds
        again = began + (seconds / 2 if patience is None else patience)
        asking = {
            shard: _Asking(
                self._order(shard),
                again,
                end if patience is None else began + self._waited_for(shard, seconds),
            )
            for shard in shards
        }
        running: dict[Future[Any], tuple[int, int]] = {}

        def ask_next(shard: int) -> None:
            one = asking[shard]
            if one.left:
                place = one.left.pop(0)
                one.running += 1
                running[self.handles[shard][place].ask(method, *arguments)] = (shard, place)

        for shard in shards:
            ask_next(shard)
        while True:
            now = time.monotonic()
            ends = [
                one.end
                for one in asking.values()
                if one.reply is None and one.running and now < one.end
            ]
            if not ends:
                break
            left = again - now if again > now else 1.0
            pause = max(min(LOOK_SECONDS, min(ends) - now, left), 0.001)
            done, _ = wait(running, pause, FIRST_COMPLETED)
            check()
            for future in done:
                shard, place = running.pop(future)
                asking[shard].running -= 1
                if patience is not None:
                    self._taken.append(time.monotonic() - began)
                if not self._take(asking[shard], future, shard, place):
                    ask_next(shard)
            for shard, one in asking.items():
                if one.reply is None and one.left and time.monotonic() >= one.again:
                    one.again = end
                    ask_next(shard)
        return {shard: one.reply for shard, one in asking.items()}

    def _take(self, one: _Asking, future: Future[Any], shard: int, place: int) -> bool:
        """Take the reply of a replica; False if it has failed and another is to be asked."""
        problem: BaseException | None = future.exception()
        told = None if problem is not None else future.result()
        if isinstance(told, BadInput | NotFound) and not isinstance(told, NotAnIndex):
            raise told  # every replica would say so
        if isinstance(told, ColreduceError):
            problem = told
        if problem is None:
            one.reply = told if one.reply is None else one.reply
            self._well(shard, place)
            return True
        self._rest(shard, place, problem)
        return one.reply is not None

    def _order(self, shard: int) -> list[int]:
        """Return a shard's replicas by turns; those that have failed lately come last."""
        count = len(self.handles[shard])
        turn = next(self._turn)
        places = [(turn + place) % count for place in range(count)]
        now = time.monotonic()
        return sorted(places, key=lambda place: self._resting.get((shard, place), 0.0) > now)

    def _well(self, shard: int, place: int) -> None:
        if self._resting.pop((shard, place), None) is not None:
            log.info("replica %d of shard %d answers again", place, shard)

    def _rest(self, shard: int, place: int, problem: BaseException) -> None:
        if (shard, place) not in self._resting:
            log.warning("replica %d of shard %d does not answer: %s", place, shard, problem)
        self._resting[shard, place] = time.monotonic() + RESTING


def merge(found: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Join the hits of shards, each in this order: best first, and of equal scores by id."""
    every = heapq.merge(*found, key=lambda hit: (-hit.score, hit.id))
    return list(itertools.islice(every, k))
