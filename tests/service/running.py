"""A real server in a process of its own, and small indexes for it to serve."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from colreduce_service.access import Access
from colreduce_service.admission import Admission
from colreduce_service.guard import Guard
from colreduce_service.rates import Rates
from colreduce_service.server import Server
from colreduce_service.settings import Settings
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from colreduce import Client, Index
from colreduce.embed import Encoder
from colreduce.store import fs

COMMAND = "from colreduce_service.command import serve; serve()"
DIM = 16


def unit_vectors(rng: np.random.Generator, tokens: int) -> NDArray[np.float32]:
    """Return random directions [tokens, 16]."""
    drawn = rng.normal(size=(tokens, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def fill(path: Path, recipe: str, documents: int = 60) -> None:
    """Build an index of random vectors with metadata and texts."""
    rng = np.random.default_rng(7)
    embeddings = [unit_vectors(rng, int(rng.integers(2, 12))) for _ in range(documents)]
    ids = [f"doc-{number}" for number in range(documents)]
    metadata = [{"number": number, "big": 2**60 + number} for number in range(documents)]
    with Index.create(path, recipe=recipe, dim=DIM) as index:
        texts = [f"text {number}" for number in range(documents)]
        index.add(ids, texts, embeddings=embeddings, metadata=metadata)


def guarding(admission: Admission) -> Guard:
    """Return a guard that lets everybody in, with the given places for searches."""
    lanes = dict.fromkeys(("search", "write", "look", "upkeep"), admission)
    return Guard(lanes, Access(None), Rates(0), str)


class Running:
    """A server process that answers by the time it is made, stopped at the end of the block."""

    def __init__(self, folder: Path, *options: str) -> None:
        arguments = [sys.executable, "-c", COMMAND, str(folder), "--json"]
        if not any(option.startswith("--listen") for option in options):
            arguments += ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*arguments, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the server did not start: {self.process.communicate()[1]}")
        self.facts: dict[str, Any] = json.loads(line)
        self.address: str = self.facts["listening"]

    def client(self, **options: Any) -> Client:
        """Return a client of this server."""
        return Client(self.address, **options)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> tuple[int, str]:
        """Stop it, and return its exit code and what it said on stderr."""
        if self.process.poll() is None:
            self.ask_to_stop()
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def scraped(address: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in the order of their names."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def serving(root: Path, *models: Encoder, **settings: Any) -> Iterator[Server]:
    """Run a server inside this process, where a test can let its disk fail, or lend it models."""
    server = Server(root, Settings(**{"listen": "127.0.0.1:0", "linger": 0.0, **settings}))
    for model in models:
        server.indexes.encoders.keep(model)
    server.load()
    server.serve()
    try:
        yield server
    finally:
        server.drain()


@contextmanager
def failing_disk(fail_at: str) -> Iterator[None]:
    """Let operations on the disk fail in the block, in the words of `colreduce.store.fs`."""
    fs.SEAM.arm(fail_at=fail_at)
    try:
        yield
    finally:
        fs.SEAM.arm()


def until(happened: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that must happen soon."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def idle_connections(address: str, count: int) -> Iterator[None]:
    """Hold so many connections that ask for nothing."""
    host, _, port = address.rpartition(":")
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(socket.create_connection((host, int(port))))
        yield
