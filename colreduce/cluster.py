"""Joining a cluster of Ray, or starting one on this machine. Ray is loaded when it is asked for."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from colreduce.errors import MissingDependency, Unavailable

LOCAL = "local"

# Seconds in which whoever listens at an address must have taken a connection.
KNOCK = 5.0


def require_reachable(address: str) -> None:
    """Refuse ``host:port`` where nobody listens: Ray itself would take minutes to say so."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return  # local, auto, or one that only Ray can read
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()
    except (OSError, OverflowError) as problem:
        raise Unavailable(
            f"no cluster of Ray can be joined at {address!r}: {problem}. 'ray start --head' tells "
            "the address of the one that it starts."
        ) from problem


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
    require_reachable(address)
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
