"""The server: bind, open the indexes, answer, and stop without dropping a request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from colreduce.errors import AlreadyExists, BadInput
from colreduce.index.warm import warm
from colreduce.rpc import limits
from colreduce.rpc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    write_pb2,
    write_pb2_grpc,
)
from colreduce_service import health
from colreduce_service.access import Access, TokenFile
from colreduce_service.addresses import is_loopback, require_unheard, split_address, tcp_address
from colreduce_service.admission import Admission
from colreduce_service.console import Console
from colreduce_service.encoders import Encoders
from colreduce_service.guard import STREAMS, Guard
from colreduce_service.insight.all import Insight
from colreduce_service.intake import MEMORY, MOST_WAITING, READING
from colreduce_service.methods import Lane
from colreduce_service.open_indexes import OpenIndexes
from colreduce_service.rates import Rates
from colreduce_service.servicers import AdminServicer, SearchServicer, WriteServicer
from colreduce_service.settings import Settings
from colreduce_service.shards.reach import Reach
from colreduce_service.tls import Certificates

log = logging.getLogger(__name__)

SERVER_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
    # More than may ever run and wait: whoever sends more over one connection is to hear from us
    # that there is too much, and not to have its streams reset.
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", limits.HEADER_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
]

# Threads beyond those that a request can hold for longer: they answer health, and turn away what
# is too much.
SPARE_THREADS = 16

SEARCH = search_pb2.DESCRIPTOR.services_by_name["Search"].full_name
WRITE = write_pb2.DESCRIPTOR.services_by_name["Write"].full_name
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
SERVICES = (SEARCH, WRITE, ADMIN)


class Server:
    """One gRPC server over the indexes in one folder."""

    def __init__(self, root: Path, settings: Settings) -> None:
        """Bind the address; nothing is opened yet, and health says NOT_SERVING."""
        self.settings = settings.resolved()
        if settings.snapshots is not None and not settings.snapshots.is_dir():
            raise BadInput(f"there is no folder {settings.snapshots}", field="snapshots")
        encoders = Encoders(settings.encoder, settings.device)
        reach = Reach(settings.ray, settings.replicas, self.settings.workers)
        self.indexes = OpenIndexes(root, encoders, write=not settings.read_only, reach=reach)
        self.lanes = _lanes(self.settings)
        self.health = health.Health()
        self.health.say(dict.fromkeys(("", *SERVICES), False))
        tokens = None if settings.tokens is None else TokenFile(settings.tokens)
        rates = Rates(settings.rate)
        self._insight = Insight(self.settings, self.lanes, self.indexes.all, self.health.state)
        self._guard = Guard(
            self.lanes, Access(tokens), rates, self.indexes.say, self._insight.observers
        )
        self._grpc = self._build()
        self.listening = _bind(self._grpc, self.settings)
        self._console = _console(self._grpc, self.settings)

    @property
    def console(self) -> str:
        """Return where the web page is; empty for nowhere."""
        return "" if self._console is None else self._console.listening

    @property
    def metrics(self) -> str:
        """Return where metrics are read; empty for nowhere."""
        return self._insight.listening

    def load(self) -> None:
        """Open the indexes and load their encoders. Health answers meanwhile: NOT_SERVING."""
        self._grpc.start()
        try:
            warm()
            self.indexes.open()
        except BaseException:
            self._guard.close()
            self._grpc.stop(0).wait()
            self.health.close()
            self._close_windows()
            raise

    def serve(self) -> None:
        """Begin to answer requests, and follow the indexes as they change."""
        self.indexes.watch(self.tell_health)
        for lane in self.lanes.values():
            lane.open()
        self.tell_health()

    def tell_health(self) -> None:
        """Say whether there is anything to search and anything to write to, and of each which.

        A service is ready as long as it can do its work for one collection; each collection has a
        name of its own, such as ``colreduce.rpc.v1.Write/papers``.
        """
        every = self.indexes.all()
        reading = {f"{SEARCH}/{one.name}": one.ready for one in every}
        writing = {f"{WRITE}/{one.name}": one.write_problem is None for one in every}
        searchable = any(reading.values()) or not every
        writable = any(writing.values()) or not (every or self.settings.read_only)
        services = {"": searchable, SEARCH: searchable, WRITE: writable, ADMIN: True}
        self.health.say({**services, **reading, **writing})

    def drain(self, hurry: Callable[[], bool] = lambda: False) -> int:
        """Stop so that nobody's request is dropped; at once when ``hurry`` says so.

        First say goodbye through health and go on answering, so that clients turn elsewhere. Then
        turn new requests away and let those inside finish. Then close the connections. Returns
        how many requests were cut off because they took longer than the grace.
        """
        self.health.say_goodbye()
        _wait(self.settings.linger, hurry)
        for lane in self.lanes.values():
            lane.close("the server is shutting down")
        _wait(self.settings.grace, lambda: hurry() or not self.in_flight)
        if left := self.in_flight:
            log.warning("%d requests were cut off", left)
        self._guard.close()
        self.health.let_go()
        self._grpc.stop(0 if left else 2).wait()
        self.health.close()
        self._close_windows()
        self.indexes.close()
        return left

    @property
    def in_flight(self) -> int:
        """Return how many requests run or wait."""
        return sum(lane.in_flight for lane in self.lanes.values())

    def _close_windows(self) -> None:
        """Close what lets people look in."""
        if self._console is not None:
            self._console.close()
        self._insight.close()

    def _build(self) -> grpc.Server:
        inside = sum(lane.most for lane in self.lanes.values())
        threads = inside + STREAMS + MEMORY // READING + MOST_WAITING + SPARE_THREADS
        server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="rpc"),
            interceptors=[self._guard],
            # With gRPC's default two servers share a port and nobody notices.
            options=[*SERVER_OPTIONS, ("grpc.so_reuseport", int(self.settings.share_port))],
            maximum_concurrent_rpcs=threads + health.MOST_WATCHERS,
        )
        # Our methods are handed a `Call` in place of gRPC's context, so they are no subclasses.
        search: Any = SearchServicer(self.indexes)
        write: Any = WriteServicer(self.indexes)
        admin: Any = AdminServicer(self.indexes, self.settings.snapshots, self.settings.seed)
        search_pb2_grpc.add_SearchServicer_to_server(search, server)
        write_pb2_grpc.add_WriteServicer_to_server(write, server)
        admin_pb2_grpc.add_AdminServicer_to_server(admin, server)
        server.add_generic_rpc_handlers((self.health.handler(),))
        if self.settings.reflection:
            names = (*SERVICES, health.NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server


def _lanes(settings: Settings) -> dict[Lane, Admission]:
    """Return the places for each group of methods.

    Writing has several, because changes that wait together are committed together; one thread
    commits them.
    """
    return {
        "search": Admission(settings.workers, settings.queue),
        "write": Admission(8, 32),
        "look": Admission(2, 32),
        "upkeep": Admission(2, 8),
    }


def _wait(seconds: float, until: Callable[[], bool]) -> None:
    """Wait, but no longer than needed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        time.sleep(0.01)


def _bind(server: grpc.Server, settings: Settings) -> str:
    """Listen, and return the address with the real port."""
    host, port = split_address(settings.listen)
    encrypted = _credentials(settings)
    if encrypted is None and not (settings.insecure or is_loopback(host)):
        raise BadInput(
            f"{settings.listen} can be reached from other machines, and nothing is encrypted. "
            "Listen on 127.0.0.1, give --tls-cert and --tls-key, or say --insecure if the network "
            "is trusted.",
            field="listen",
        )
    require_unheard(settings.listen)
    try:
        if encrypted is None:
            bound = server.add_insecure_port(settings.listen)
        else:
            bound = server.add_secure_port(settings.listen, encrypted)
    except RuntimeError as error:
        raise AlreadyExists(
            f"cannot listen on {settings.listen}: another program does already, or the address is "
            "not one of this machine"
        ) from error
    return settings.listen if port is None else f"{host}:{bound}"


def _console(server: grpc.Server, settings: Settings) -> Console | None:
    """Listen for the web page, if it is wanted.

    It asks the server through a socket that only this user can reach.
    """
    if not settings.console:
        return None
    if settings.tls_client_ca is not None and settings.tokens is None:
        raise BadInput(
            "the console asks for no client certificate: give --tokens, too", field="console"
        )
    host, port = tcp_address(settings.console, "console", settings.insecure)
    return Console(host, port, server.add_insecure_port)


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    cert, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise BadInput("TLS takes both --tls-cert and --tls-key", field="tls_cert")
    return Certificates(cert, key, client_ca).credentials()
