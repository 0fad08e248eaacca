"""Builds on Ray beside a build that nobody disturbs: the same bytes, whatever happens to an actor.

Everything runs in a network of its own where the system allows that, so that nobody else can reach
the cluster, and is ended by leaving the cluster, not by looking for processes by name.

    python -m tests.reliability.on_ray --kills 20
"""

import argparse
import fcntl
import json
import logging
import os
import random
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A test must not find, or leave behind, a token in the home folder of whoever runs it.
TOKEN = "RAY_AUTH_TOKEN_PATH"


# What Ray says when a node, or the first process of one, is not up in time.
TOO_SLOW = (b"timed out during startup", b"Timed out waiting for file")


def alone(module, *arguments):
    """Run a module of the tests in a network and a home of its own; return how it ended.

    A node of Ray that is not up within 30 seconds, which is Ray's own limit, is begun again, four
    times at most: on a busy machine that is no fault of what is tested.
    """
    for _ in range(5):
        done = _alone(module, *arguments)
        if done.returncode == 0 or not any(words in done.stderr for words in TOO_SLOW):
            break
    return done


def _alone(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    for unshare in (["unshare", "-n"], ["unshare", "-rn"], []):
        if not unshare or subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            break
    with tempfile.TemporaryDirectory() as home:
        token = Path(home) / "token"
        token.write_text(secrets.token_hex(32))
        environment = {
            **os.environ,
            "HOME": home,
            "TMPDIR": home,
            "RAY_TMPDIR": home,
            TOKEN: str(token),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "OWN_NETWORK": "1" if unshare else "",
        }
        return subprocess.run([*unshare, *command], cwd=ROOT, env=environment, capture_output=True)


def raise_loopback():
    """Switch on the one interface of a network that has just been made."""
    if not os.environ.get("OWN_NETWORK"):
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # up and running
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


@dataclass
class Figures:
    """What was counted. A failure is another index, or too much done again."""

    builds: dict[str, str] = field(default_factory=dict)
    kills: int = 0
    again: int = 0  # pieces that were begun more than once
    doubled: int = 0
    nodes: int = 0
    failures: list[str] = field(default_factory=list)


def counting_encoder(file):
    """Return an encoder that notes the number of the process for every piece that it encodes."""
    from tests.hashing_encoder import HashingEncoder

    class Counting(HashingEncoder):
        def documents(self, texts, batch_size=32):
            with open(file, "a") as out:
                out.write(f"{os.getpid()}\n")
            time.sleep(0.05)  # so that there is something to be killed
            return super().documents(texts, batch_size)

    return Counting()


class Killer(threading.Thread):
    """Ends the process that began the newest piece, again and again."""

    def __init__(self, file, kills, seed):
        super().__init__(daemon=True)
        self.file, self.left, self.kills = file, kills, 0
        self.draw = random.Random(seed)
        self.over = threading.Event()

    def run(self):
        seen = 0
        while self.left and not self.over.is_set():
            told = self.file.read_text().split() if self.file.exists() else []
            others = [int(one) for one in told[seen:] if int(one) != os.getpid()]
            if others:
                seen = len(told)
                time.sleep(self.draw.uniform(0, 0.05))
                try:
                    os.kill(others[-1], signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.left -= 1
                self.kills += 1
            self.over.wait(0.02)


class Loser(threading.Thread):
    """Takes a node away without notice, as soon as some pieces were begun."""

    def __init__(self, file, cluster, node):
        super().__init__(daemon=True)
        self.file, self.cluster, self.node = file, cluster, node

    def run(self):
        while not self.file.exists() or len(self.file.read_text().split()) < 4:
            time.sleep(0.02)
        self.cluster.remove_node(self.node, allow_graceful=False)


def campaign(folder, kills, seed=1):
    """Build in this process and on two nodes: in peace, under kills, all twice, one node lost."""
    import ray
    from colreduce_indexer.executors import Inline, OnRay, on_ray
    from ray.cluster_utils import Cluster

    from tests.unit.test_executors import PIECES, Twice, corpus, run

    figures = Figures()
    on_ray.MOST_LOST += kills  # all of them may meet the same piece
    source = corpus(folder / "docs.jsonl")
    counted = folder / "begun"

    def built(name, executor):
        counted.write_text("")
        done = run(source, folder / name, executor, counting_encoder(counted))
        figures.builds[name] = done.digest
        if done.digest != figures.builds["alone"]:
            figures.failures.append(f"{name}: another index")
        return len([one for one in counted.read_text().split() if int(one) != os.getpid()])

    built("alone", Inline())
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    try:
        if built("two nodes", OnRay(cluster.address)) != PIECES:
            figures.failures.append("two nodes: a piece was made twice for no reason")
        figures.nodes = len(cluster.list_all_nodes())
        exchange = folder / "exchange"
        built("through storage", OnRay(cluster.address, workers=2, exchange=exchange.as_uri()))
        if list(exchange.iterdir()):
            figures.failures.append("through storage: something was left there")
        counted.write_text("")  # or the killer looks for those who made the last one
        killer = Killer(counted, kills, seed)
        killer.start()
        begun = built("killed", OnRay(cluster.address, workers=2))
        killer.over.set()
        killer.join()
        figures.kills, figures.again = killer.kills, begun - PIECES
        if figures.again > figures.kills + 2:
            figures.failures.append(f"killed: {figures.again} pieces again")
        twice = Twice(OnRay(cluster.address, workers=2))
        built("twice", twice)
        figures.doubled = twice.made_pieces - PIECES
        loser = Loser(counted, cluster, node)
        loser.start()
        built("one node lost", OnRay(cluster.address, workers=2))
        loser.join()
    finally:
        ray.shutdown()  # never `ray stop`, which looks for processes by name
        cluster.shutdown()
    built("local", OnRay("local", workers=1))
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    raise_loopback()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        figures = campaign(Path(folder), options.kills, options.seed)
    sys.stdout.write("\n" + json.dumps(vars(figures)) + "\n")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
