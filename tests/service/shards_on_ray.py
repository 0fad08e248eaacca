"""Kills replicas of shards on Ray while queries run: with two of each no query fails.

python -m tests.service.shards_on_ray --kills 10
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from tests.reliability.on_ray import raise_loopback

SHARDS = 2


def processes(hub):
    """Return the processes of the replicas that answer, by their places."""
    found = {}
    for shard, replicas in enumerate(hub.handles):
        for place, one in enumerate(replicas):
            try:
                found[shard, place] = one.ask("process").result(10)
            except Exception:
                continue  # it is being started again
    return found


class Asking(threading.Thread):
    """Searches again and again, and remembers what came back."""

    def __init__(self, address, query, expected):
        super().__init__(daemon=True)
        self.address, self.query, self.expected = address, query, expected
        self.calls = self.partial = 0
        self.failures = []
        self.over = threading.Event()

    def run(self):
        from colreduce import Client

        with Client(self.address, timeout=20) as client:
            while not self.over.is_set():
                self.calls += 1
                try:
                    answer = client.answer(self.query, 30)
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                self.partial += answer.partial
                if not answer.partial and [hit.id for hit in answer.hits] != self.expected:
                    self.failures.append("other documents")


def served(root, replicas, kills, query, expected):
    """Serve shards, kill so many replicas, and return what callers noticed."""
    from colreduce import Client
    from tests.service.running import serving, until

    draw = random.Random(1)
    with serving(root, ray="local", replicas=replicas) as server:
        [collection] = server.indexes.all()
        hub = collection._hub
        alone = processes(hub)
        caller = Asking(server.listening, query, expected)
        caller.start()
        killed = 0
        while killed < kills:
            until(lambda: len(processes(hub)) == SHARDS * replicas, 180)
            there = processes(hub)
            with suppress(ProcessLookupError, IndexError):  # it has gone by itself meanwhile
                os.kill(there[draw.choice(sorted(there))], signal.SIGKILL)
                killed += 1
            time.sleep(0.5)
        until(lambda: len(processes(hub)) == SHARDS * replicas, 180)
        caller.over.set()
        caller.join()
        with Client(server.listening, timeout=20) as client:
            until(lambda: not client.answer(query, 30).partial, 180)
            whole = [hit.id for hit in client.search(query, 30)] == expected
        return {
            "processes": len(set(alone.values()) - {os.getpid()}),
            "calls": caller.calls,
            "failed": caller.failures,
            "partial": caller.partial,
            "killed": killed,
            "whole again": whole,
        }


def by_command(root, query, expected):
    """Serve as people do; return whether it answered, and how it ended when it was asked to."""
    from tests.service.running import Running

    with Running(root, "--ray", "local") as server, server.client(timeout=20) as client:
        answered = [hit.id for hit in client.search(query, 30)] == expected
        return {"answered": answered, "exit code": server.stop()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    raise_loopback()
    from colreduce import Index
    from colreduce.index.shards import split
    from tests.service.test_shards import filled, whole_vectors

    query = whole_vectors(np.random.default_rng(9), 5)
    with tempfile.TemporaryDirectory() as folder:
        source = filled(Path(folder) / "idx", "fp32 | exhaustive | maxsim")
        with Index.open(source) as index:
            expected = [hit.id for hit in index.search(query, 30)]
        root = Path(folder) / "shards"
        split(source, root, SHARDS)
        told = {
            "two": served(root, 2, options.kills, query, expected),
            "one": served(root, 1, 1, query, expected),
            "command": by_command(root, query, expected),
        }
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
