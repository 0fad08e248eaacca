"""The server: bind, open the indexes, answer, and stop without dropping a request."""

from __future__ import annotations

import dataclasses
import ipaddress
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from colreduce.errors import AlreadyExists, BadInput
from colreduce.rpc import limits
from colreduce.rpc.v1 import admin_pb2, admin_pb2_grpc, search_pb2, search_pb2_grpc
from colreduce_service.access import Access, TokenFile
from colreduce_service.admission import Admission
from colreduce_service.cores import cores
from colreduce_service.guard import Guard
from colreduce_service.open_indexes import OpenIndexes
from colreduce_service.rates import Rates
from colreduce_service.servicer import AdminServicer, SearchServicer

log = logging.getLogger(__name__)

SERVER_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.so_reuseport", 0),  # with gRPC's default two servers share a port and nobody notices
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 64),
    ("grpc.max_metadata_size", limits.HEADER_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
]

# Requests that look at collections at once; they cost little, and are not to wait for searches.
LOOKING = 2

# Threads beyond those that run or wait: they answer health, and turn away what is too much.
SPARE_THREADS = 16

SERVICES = (
    search_pb2.DESCRIPTOR.services_by_name["Search"].full_name,
    admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to serve."""

    listen: str = "127.0.0.1:50051"
    insecure: bool = False  # may listen beyond this machine, although nothing is encrypted
    encoder: str | None = None  # a model for all indexes, "none", or each index' own
    workers: int = 0  # requests that run at once; 0: one per core
    queue: int = 0  # requests that wait; 0: as many as are answered in half a usual deadline
    tokens: Path | None = None  # a file of who may do what; None: everybody may do everything
    rate: float = 0.0  # query vectors x candidates a second for each caller; 0: no limit
    reflection: bool = False
    linger: float = 0.5  # seconds between saying goodbye and turning requests away
    grace: float = 30.0  # seconds that requests may still take after that

    def resolved(self) -> Settings:
        """Return the settings with the number of workers when that was left to the server."""
        return dataclasses.replace(self, workers=self.workers or cores())


class Server:
    """One gRPC server over the indexes in one folder."""

    def __init__(self, root: Path, settings: Settings) -> None:
        """Bind the address; nothing is opened yet, and health says NOT_SERVING."""
        self.settings = settings.resolved()
        self.indexes = OpenIndexes(root, self.settings.encoder)
        self.admission = Admission(self.settings.workers, self.settings.queue)
        self._lanes = {"search": self.admission, "look": Admission(LOOKING)}
        tokens = None if self.settings.tokens is None else TokenFile(self.settings.tokens)
        rates = Rates(self.settings.rate)
        self._guard = Guard(self._lanes, Access(tokens), rates, self.indexes.say)
        self._health = health.HealthServicer()
        self._say_health(NOT_SERVING)
        inside = sum(lane.most for lane in self._lanes.values())
        self._grpc = grpc.server(
            ThreadPoolExecutor(inside + SPARE_THREADS, thread_name_prefix="rpc"),
            interceptors=[self._guard],
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=inside + SPARE_THREADS,
        )
        search_pb2_grpc.add_SearchServicer_to_server(SearchServicer(self.indexes), self._grpc)
        admin_pb2_grpc.add_AdminServicer_to_server(AdminServicer(self.indexes), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if self.settings.reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._grpc)
        self.listening = _bind(self._grpc, self.settings)

    def load(self) -> None:
        """Open the indexes and load their encoders. Health answers meanwhile: NOT_SERVING."""
        self._grpc.start()
        try:
            self.indexes.open()
        except BaseException:
            self._grpc.stop(0).wait()
            self._guard.close()
            raise

    def serve(self) -> None:
        """Begin to answer requests, and follow the indexes as they change."""
        self.indexes.watch()
        for lane in self._lanes.values():
            lane.open()
        self._say_health(SERVING)

    def drain(self, hurry: Callable[[], bool] = lambda: False) -> int:
        """Stop so that nobody's request is dropped; at once when ``hurry`` says so.

        First say goodbye through health and go on answering, so that clients turn elsewhere. Then
        turn new requests away and let those inside finish. Then close the connections. Returns
        how many requests were cut off because they took longer than the grace.
        """
        self._health.enter_graceful_shutdown()
        _wait(self.settings.linger, hurry)
        for lane in self._lanes.values():
            lane.close("the server is shutting down")
        _wait(self.settings.grace, lambda: hurry() or not self._in_flight)
        if left := self._in_flight:
            log.warning("%d requests were cut off", left)
        self._grpc.stop(0 if left else 2).wait()
        self._guard.close()
        self.indexes.close()
        return left

    @property
    def _in_flight(self) -> int:
        return sum(lane.in_flight for lane in self._lanes.values())

    def _say_health(self, status: Any) -> None:
        for name in ("", *SERVICES):
            self._health.set(name, status)


def _wait(seconds: float, until: Callable[[], bool]) -> None:
    """Wait, but no longer than needed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        time.sleep(0.01)


def _bind(server: grpc.Server, settings: Settings) -> str:
    """Listen, and return the address with the real port."""
    host, port = split_address(settings.listen)
    if not (settings.insecure or is_loopback(host)):
        raise BadInput(
            f"{settings.listen} can be reached from other machines, and nothing is encrypted or "
            "authenticated. Listen on 127.0.0.1, or say --insecure if the network is trusted.",
            field="listen",
        )
    try:
        bound = server.add_insecure_port(settings.listen)
    except RuntimeError as error:
        raise AlreadyExists(
            f"cannot listen on {settings.listen}: another program does already, or the address is "
            "not one of this machine"
        ) from error
    return settings.listen if port is None else f"{host}:{bound}"


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
