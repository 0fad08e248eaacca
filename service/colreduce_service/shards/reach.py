"""How the replicas of shards are reached: in this process, or in a cluster of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from colreduce.cluster import joined
from colreduce_service.shards import actors, threads
from colreduce_service.shards.hub import Handle


class Reach:
    """Makes replicas; ``close`` leaves the cluster in which they are, and so ends them."""

    def __init__(self, address: str, replicas: int, workers: int) -> None:
        """``address`` is that of a cluster, or nothing for this process.

        replicas  of each shard
        workers   searches that run at once
        """
        self.remote = bool(address)
        self._address = address
        self._replicas = replicas
        self._workers = workers
        self._joined = ExitStack()
        self._ray: Any = None

    def __call__(self, folders: Sequence[Path]) -> list[list[Handle]]:
        """Make the replicas of shards that lie in these folders."""
        if not self.remote:
            # Each search asks all shards at once, and some more is for looking after them.
            return threads.opened(folders, 1, len(folders) * self._workers + 1)
        if self._ray is None:
            self._ray = self._joined.enter_context(joined(self._address))
        return actors.started(self._ray, folders, self._replicas)

    def close(self) -> None:
        """Leave the cluster."""
        self._joined.close()
