"""Addresses to listen on, as people write them."""

from __future__ import annotations

import ipaddress

from colreduce.errors import BadInput


def split_address(listen: str) -> tuple[str, int | None]:
    """Split ``host:port``; a ``unix:`` path has no port."""
    if listen.startswith("unix:"):
        return listen, None
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise BadInput(
            f"{listen!r} is no address; wanted host:port such as 127.0.0.1:50051, or unix:/path",
            field="listen",
        )
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
