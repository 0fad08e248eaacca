"""Replicas in this process: a pool of threads in the place of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from colreduce_service.shards.hub import Handle
from colreduce_service.shards.replica import Replica


class InThread:
    """A replica that this process holds."""

    def __init__(self, replica: Replica, pool: ThreadPoolExecutor) -> None:
        self.replica = replica
        self._pool = pool

    def ask(self, method: str, *arguments: Any) -> Future[Any]:
        """Let a thread of the pool ask the replica."""
        return self._pool.submit(getattr(self.replica, method), *arguments)

    def end(self) -> None:
        """Let go of its files, and of the threads when they have done what they were asked."""
        self.replica.close()
        self._pool.shutdown(wait=False)


def opened(folders: Sequence[Path], replicas: int, threads: int) -> list[list[Handle]]:
    """Return handles of replicas in this process."""
    pool = ThreadPoolExecutor(max(threads, 1), thread_name_prefix="shard")
    return [[InThread(Replica(str(folder)), pool) for _ in range(replicas)] for folder in folders]
