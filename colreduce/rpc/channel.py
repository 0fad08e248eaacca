"""How a client reaches a server: options, retries, TLS, and what it shows of itself."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from colreduce.errors import BadInput
from colreduce.rpc import limits

# A failed call is tried again when the server could not be reached or turned it away, and only one
# that may be made twice without harm. Upserts are resumed by the client itself. No timeout stands
# here: gRPC would let it cut the one that a caller gives.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    "methodConfig": [
        {
            "name": [
                {"service": "colreduce.rpc.v1.Search"},
                {"service": "colreduce.rpc.v1.Admin", "method": "ListCollections"},
                {"service": "colreduce.rpc.v1.Admin", "method": "Describe"},
                {"service": "colreduce.rpc.v1.Admin", "method": "Compact"},
                {"service": "colreduce.rpc.v1.Write", "method": "Delete"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}

# Pings must be rarer than the 30 seconds that the server allows, or it cuts the connection.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_metadata_size", limits.HEADER_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


# A scheme of gRPC's, or a host with a port; a web address is neither.
_ADDRESS = re.compile(r"(?!https?:)[^\s]+:[^\s]*[^\s:]")


@dataclass(frozen=True, slots=True)
class Way:
    """The way to a server.

    address      ``host:port``, ``dns:///name:port`` for several replicas, or ``unix:/path``
    token        shown to a server that lets in only who has one
    tls          encrypt, and trust the authorities that this machine trusts
    ca           encrypt, and trust the authorities in this PEM file instead
    certificate  what this client shows a server that asks for it, a PEM file, with its ``key``
    server_name  the name that the server's certificate must bear; by default that of the address
    insecure     send the token although nothing is encrypted
    """

    address: str
    token: str | None = None
    tls: bool = False
    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not _ADDRESS.fullmatch(self.address):
            raise BadInput(
                f"{self.address!r} is no server's address; wanted host:port such as "
                "127.0.0.1:50051, dns:///name:port or unix:/path",
                field="address",
            )
        if (self.certificate is None) != (self.key is None):
            raise BadInput("a certificate needs its key, and a key its certificate", field="key")
        if self.token and not (self.encrypted or self.insecure or _is_local(self.address)):
            raise BadInput(
                f"the token would travel to {self.address} where others can read it: connect with "
                "tls=True or ca=FILE, or say insecure=True if the network is trusted",
                field="token",
            )

    @property
    def encrypted(self) -> bool:
        """Say whether TLS is spoken."""
        return self.tls or self.ca is not None or self.certificate is not None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return what is sent with every request."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def channel(self, *, ready: bool = True) -> grpc.Channel:
        """Return a connection for threads. It is made when the first request is sent.

        With ``ready`` requests go only to servers that say they are: so whoever asks a server for
        its health must not wait for that.
        """
        options = self._options(ready)
        if (credentials := self._credentials()) is None:
            return grpc.insecure_channel(self.address, options=options)
        return grpc.secure_channel(self.address, credentials, options=options)

    def aio_channel(self, *, ready: bool = True) -> grpc.aio.Channel:
        """Return a connection for coroutines; ``ready`` as in `channel`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            raise BadInput("make it where the event loop runs: inside a coroutine") from error
        options = self._options(ready)
        if (credentials := self._credentials()) is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(self.address, credentials, options=options)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self.encrypted:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.ca, "ca"), _read(self.key, "key"), _read(self.certificate, "certificate")
        )

    def _options(self, ready: bool) -> list[tuple[str, Any]]:
        options = [*OPTIONS, ("grpc.service_config", json.dumps(SERVICE_CONFIG if ready else {}))]
        if self.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options


def _read(file: str | Path | None, field: str) -> bytes | None:
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError as error:
        raise BadInput(f"{field}: {file} cannot be read: {error}", field=field) from error


def _is_local(address: str) -> bool:
    """Say whether an address leads to this machine only."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
