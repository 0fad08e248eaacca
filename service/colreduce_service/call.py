"""One request on its way through the server: who asks, how long there is, where the time went."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from colreduce_service.access import ANYBODY, Principal
from colreduce_service.admission import Admission
from colreduce_service.deadline import Deadline
from colreduce_service.methods import Rule

if TYPE_CHECKING:
    from colreduce.index import Hit
    from colreduce.index.search import Asked, View

# The header in which a caller may name its request, and in which the name is returned.
REQUEST_ID = "x-request-id"

_PROPER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Searched:
    """One search that was answered, for whoever wants to look at it again."""

    view: View
    asked: Asked
    hits: Sequence[Hit]


@dataclass(slots=True)
class Call:
    """What is known of one request; the guard hands it to the servicer in place of gRPC's own."""

    method: str  # such as /colreduce.rpc.v1.Search/Search
    context: grpc.ServicerContext
    rule: Rule
    id: str
    deadline: Deadline
    lane: Admission | None = None  # where it holds a place
    principal: Principal = ANYBODY
    collection: str = ""  # its name, once it is known
    cost: float = 0.0  # what the caller is charged for it
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> how long it took
    partial: bool = False  # a part of the collection did not answer
    searched: list[Searched] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, method: str, rule: Rule, context: grpc.ServicerContext) -> Call:
        """Take up a request under the name that its caller gave it, or under a new one."""
        given = dict(context.invocation_metadata()).get(REQUEST_ID, "")
        name = given if isinstance(given, str) and _PROPER_ID.fullmatch(given) else ""
        deadline = Deadline(context, rule.seconds)
        return cls(method, context, rule, name or os.urandom(8).hex(), deadline)

    @property
    def total(self) -> float:
        """Return the seconds since the request came."""
        return time.perf_counter() - self.started

    def check(self) -> None:
        """Stop the request here if nobody waits for its answer any more."""
        self.deadline.check()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Lend its place to others while the block waits for something else than a core."""
        if self.lane is None:
            yield
            return
        with self.lane.outside(self.context, self.deadline):
            yield

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time that the block takes as that stage's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent(name, time.perf_counter() - began)

    def spent(self, name: str, seconds: float) -> None:
        """Count some time as that stage's."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
