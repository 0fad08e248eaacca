"""Addresses to listen on, as people write them."""

from __future__ import annotations

import ipaddress
import socket

from colreduce.errors import AlreadyExists, BadInput


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


def tcp_address(listen: str, field: str, insecure: bool) -> tuple[str, int]:
    """Split the address of something that speaks plain HTTP; only this machine may reach it.

    insecure  other machines may
    """
    host, port = split_address(listen)
    if port is None:
        raise BadInput(f"{listen!r}: wanted host:port such as 127.0.0.1:8080", field=field)
    if not (insecure or is_loopback(host)):
        raise BadInput(
            f"{listen} can be reached from other machines, and nothing is encrypted there. Give "
            "127.0.0.1, or say --insecure if the network is trusted.",
            field=field,
        )
    return host, port


def require_unheard(listen: str) -> None:
    """Raise when a server listens at the path of a socket; gRPC would put its own in its place.

    A socket that a dead server left behind is nobody's.
    """
    if not listen.startswith("unix:"):
        return
    path = listen.removeprefix("unix:")
    path = path.removeprefix("//") if path.startswith("///") else path
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:  # nobody listens, or gRPC will say what is wrong with the path
            return
    raise AlreadyExists(f"cannot listen on {listen}: another program does already")


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    if host.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
