"""Replicas as actors of Ray, reached by their handles.

Every one opens its shard from the path that the server knows it by, so the shards must lie where
all machines can read them. An actor that dies is started again by Ray, on another machine if need
be; meanwhile the other replicas of its shard are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from colreduce_service.shards.hub import Handle
from colreduce_service.shards.replica import Replica

# Questions that a replica works on at once; more wait.
AT_ONCE = 4

# What a replica reserves of a processor: little enough for new ones to start beside the old ones.
SHARE = 0.5


class Remote:
    """An actor of Ray."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor

    def ask(self, method: str, *arguments: Any) -> Future[Any]:
        """Send a question; the future fails when the actor dies."""
        found: Future[Any] = getattr(self._actor, method).remote(*arguments).future()
        return found

    def end(self) -> None:
        """End the actor."""
        self._ray.kill(self._actor)


def started(ray: Any, folders: Sequence[Path], replicas: int) -> list[list[Handle]]:
    """Start the replicas of every shard, on different machines where there are some."""
    kind = ray.remote(Replica).options(
        num_cpus=SHARE, max_restarts=-1, max_concurrency=AT_ONCE, scheduling_strategy="SPREAD"
    )
    return [
        [Remote(ray, kind.remote(str(folder), 1)) for _ in range(replicas)] for folder in folders
    ]
