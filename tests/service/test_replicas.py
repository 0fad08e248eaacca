"""P15: what was accepted is finished, and nobody notices when replicas start again in turn."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from colreduce_service.server import Server
from colreduce_service.settings import Settings

from colreduce import Client, Index
from colreduce.errors import ColreduceError, Unavailable
from colreduce.results import Document
from colreduce.rpc import upload
from tests.service.running import DIM, fill
from tests.service.tiers import note, size

EYE = np.eye(DIM, dtype=np.float32)
RECIPE = "fp32 | exhaustive | maxsim"

# How often both replicas are started again, and the seconds between: twice what a client waits
# before it connects again.
ROUNDS, BETWEEN = size(2, 30), 2.0


def started(path: Path, listen: str = "127.0.0.1:0", **settings: object) -> Server:
    server = Server(path, Settings(listen=listen, linger=0.5, **settings))  # type: ignore[arg-type]
    server.load()
    server.serve()
    return server


def test_no_caller_notices_that_replicas_are_started_again_one_after_the_other(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "idx", RECIPE, documents=20)
    replicas = [started(tmp_path / "idx", read_only=True) for _ in range(2)]
    address = "ipv4:" + ",".join(one.listening for one in replicas)
    stop, answered, failed = threading.Event(), [0] * 8, []

    def ask(number: int) -> None:
        with Client(address, timeout=10) as client:
            while not stop.is_set():
                try:
                    assert len(client.search(EYE, k=3)) == 3
                    answered[number] += 1
                except ColreduceError as error:
                    failed.append(error)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(len(answered))]
    for caller in callers:
        caller.start()
    time.sleep(0.5)
    cut_off = 0
    for _ in range(ROUNDS):
        for place, old in enumerate(replicas):
            cut_off += old.drain()
            replicas[place] = started(tmp_path / "idx", old.listening, read_only=True)
            time.sleep(BETWEEN)
    stop.set()
    for caller in callers:
        caller.join()
    for one in replicas:
        one.drain()
    note(
        "P15",
        "two replicas started again in turn",
        restarts=2 * ROUNDS,
        calls=sum(answered),
        errors=len(failed),
        cut_off=cut_off,
    )
    assert failed == []
    assert cut_off == 0
    assert min(answered) > 20


def test_what_was_acknowledged_while_the_server_ended_is_there_and_nothing_else_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "TRIES", 0)  # here whoever is turned away gives up
    fill(tmp_path / "idx", RECIPE, documents=3)
    server = started(tmp_path / "idx")
    acknowledged: set[str] = set()
    sent: set[str] = set()
    guard = threading.Lock()

    def write(number: int) -> None:
        with Client(server.listening, timeout=10) as client:
            for count in range(10_000):
                one = f"new-{number}-{count}"
                with guard:
                    sent.add(one)
                try:
                    report = client.upsert([Document(one, {}, None, EYE[:1])])
                except Unavailable:
                    return
                if report.written:
                    with guard:
                        acknowledged.add(one)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    time.sleep(1.0)
    assert server.drain() == 0
    for writer in writers:
        writer.join()
    with Index.open(tmp_path / "idx") as index:
        stored = {one for one in sent if one in index}
        assert len(index) == len(stored) + 3
    assert len(acknowledged) > 40
    assert acknowledged <= stored
    assert len(sent - acknowledged) <= 8
