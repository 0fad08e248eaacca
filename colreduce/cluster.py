"""Joining a cluster of Ray, or starting one on this machine. Ray is loaded when it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from colreduce.errors import MissingDependency, Unavailable

LOCAL = "local"


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Join a cluster, or start one here for ``local``; leave it, or end it, behind the block.

    A process that is in a cluster already stays in that one.
    """
    try:
        import ray
    except ImportError as problem:
        raise MissingDependency(
            "Ray is not installed: pip install 'colreduce[ray]', on every machine of the cluster"
        ) from problem
    if ray.is_initialized():
        yield ray
        return
    known: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    where = known if address == LOCAL else {"address": address}
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **where)
    except (ConnectionError, RuntimeError, ValueError) as problem:
        raise Unavailable(f"no cluster of Ray can be joined at {address!r}: {problem}") from problem
    try:
        yield ray
    finally:
        ray.shutdown()
