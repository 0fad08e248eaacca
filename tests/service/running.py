"""A real server in a process of its own, and small indexes for it to serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from colreduce_service.access import Access
from colreduce_service.admission import Admission
from colreduce_service.guard import Guard
from colreduce_service.rates import Rates
from numpy.typing import NDArray

from colreduce import Client, Index

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
    return Guard({"search": admission, "look": admission}, Access(None), Rates(0), str)


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
