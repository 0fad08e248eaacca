"""What a server does under load: overhead, throughput by clients, and too much of everything.

    python -m benchmarks.load
    python -m benchmarks.load --documents 20000 --recipe "int8 | mean | maxsim(candidates=1000)" \\
        --out load-whole

A server runs in a process of its own over an index of made vectors, clients in others; all of them
share the cores of this machine, so what clients cost is in the figures. Asked are 32 query vectors
of 128 numbers, ten hits. Four things are measured in one run:

- one caller, in turns in this process and through the server: what the service adds;
- 1 to 32 callers who ask again as soon as they are answered, beside the index searched by as many
  threads as there are cores; and 16 who ask several read-only servers that share a port, one for
  each core;
- callers who come at random times, at shares of what could be answered, up to ten times as often;
- the same with the server on one core and the callers on the others, so that neither takes the
  other's time.

Reduced vectors make a search short, and what the service adds weighs much; with all vectors it is
the other way round. Of callers who ask again it is also measured what a search costs the server
alone, in milliseconds of a core: that is what would hold if callers had cores of their own. Results
stand in ``benchmarks/results/load.json``, the picture in ``load.png``; ``--out`` names others.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch

from benchmarks import common
from benchmarks.speed.store import made
from colreduce import Client, Index
from colreduce.rpc import channel, codec
from colreduce.rpc.v1 import search_pb2, search_pb2_grpc

RECIPE = "ward(factor=8) | int8 | mean | maxsim(candidates=200)"
CALLERS = (1, 2, 4, 8, 16, 32)
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 3.0, 10.0)
QUERIES = made(32, 99)[:, :32].numpy()
DEADLINE = 2.0


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return percentiles in milliseconds."""
    return {f"p{q}_ms": float(np.percentile(seconds, q)) * 1000 for q in (50, 95, 99)}


def build(folder: Path, documents: int, recipe: str = RECIPE) -> None:
    """Make the index that is served."""
    with Index.create(folder, recipe=recipe, dim=QUERIES.shape[2]) as index:
        for first in range(0, documents, 1000):
            count = min(1000, documents - first)
            ids = [f"doc-{first + n}" for n in range(count)]
            index.add(ids, embeddings=list(made(count, first)))
        index.compact()


def server(
    folder: Path, *options: str, listen: str = "127.0.0.1:0"
) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it with its address."""
    code = "from colreduce_service.command import serve; serve()"
    command = [sys.executable, "-c", code, str(folder), "--listen", listen, "--json", "-q"]
    running = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    return running, json.loads(running.stdout.readline())["listening"]


def overhead(folder: Path, address: str, rounds: int) -> dict[str, Any]:
    """Ask the same queries in this process and through the server, in turns."""
    here: list[float] = []
    there: list[float] = []
    with Index.open(folder) as index, Client(address) as client:
        for number in range(rounds + 20):
            query = QUERIES[number % len(QUERIES)]
            for taken, ask in ((here, index.search), (there, client.search)):
                started = time.perf_counter()
                ask(query, 10)
                taken.append(time.perf_counter() - started)
    here, there = here[20:], there[20:]
    added = 1000 * (np.median(there) - np.median(here))
    return {
        "in_process": percentiles(here),
        "through_the_server": percentiles(there),
        "added_p50_ms": float(added),
    }


def used(process: int) -> float:
    """Return the seconds of cores that a process has used."""
    words = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def in_process(folder: Path, seconds: float, threads: int) -> dict[str, float]:
    """Return searches a second with so many threads, and what one costs."""
    stop = 0.0

    def ask(index: Index, seed: int) -> int:
        count = 0
        while time.monotonic() < stop:
            index.search(QUERIES[(seed + count) % len(QUERIES)], 10)
            count += 1
        return count

    with Index.open(folder) as index, ThreadPoolExecutor(threads) as pool:
        for lasting in (0.5, seconds):  # at first, what is read for the first time is read
            stop = time.monotonic() + lasting
            before = time.process_time()
            count = sum(pool.map(lambda seed: ask(index, seed), range(threads)))
    return {
        "threads": threads,
        "per_second": count / seconds,
        "core_ms": 1000 * (time.process_time() - before) / count,
    }


def closed(address: str, callers: int, seconds: float) -> dict[str, Any]:
    """Let callers ask again as soon as they are answered."""
    stop = time.monotonic() + seconds

    def ask(seed: int) -> list[float]:
        taken = []
        with Client(address) as client:
            while time.monotonic() < stop:
                started = time.perf_counter()
                client.search(QUERIES[(seed + len(taken)) % len(QUERIES)], 10)
                taken.append(time.perf_counter() - started)
        return taken

    with ThreadPoolExecutor(callers) as pool:
        taken = [one for some in pool.map(ask, range(callers)) for one in some]
    return {"callers": callers, "per_second": len(taken) / seconds, **percentiles(taken)}


def apart(address: str, callers: int, seconds: float) -> dict[str, Any]:
    """Do the same with a connection for each caller, as callers in several processes have."""
    channel.OPTIONS.append(("grpc.use_local_subchannel_pool", 1))
    return closed(address, callers, seconds)


def arriving(address: str, rate: float, seconds: float) -> dict[str, Any]:
    """Let callers come at random times, whether or not others were answered."""
    draw = random.Random(1)
    codes: Counter[str] = Counter()
    good: list[float] = []
    guard = threading.Lock()
    requests = [
        search_pb2.SearchRequest(query=search_pb2.Query(vectors=codec.to_tokens(query)), k=10)
        for query in QUERIES
    ]

    def ended(call: Any, began: float) -> None:
        took = time.monotonic() - began
        with guard:
            codes[call.code().name] += 1
            if call.code() is grpc.StatusCode.OK:
                good.append(took)

    with grpc.insecure_channel(address) as line:
        stub, calls = search_pb2_grpc.SearchStub(line), []
        started = due = time.monotonic()
        end = due + seconds
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            call = stub.Search.future(requests[len(calls) % len(requests)], timeout=DEADLINE)
            call.add_done_callback(lambda call, began=began: ended(call, began))
            calls.append(call)
            due += draw.expovariate(rate)
        lasted = time.monotonic() - started  # longer where sending so many takes longer
        while sum(codes.values()) < len(calls):
            time.sleep(0.01)
    return {
        "offered": len(calls) / lasted,
        "goodput": len(good) / lasted,
        "codes": dict(codes),
        **(percentiles(good) if good else {}),
    }


def sharing(folder: Path, seconds: float, servers: int) -> dict[str, Any]:
    """Let 16 callers ask several servers that share a port."""
    more = ("--read-only", "--share-port", "--workers", "1")
    first, address = server(folder, *more)
    others = [server(folder, *more, listen=address)[0] for _ in range(servers - 1)]
    try:
        in_child("apart", address, 16, 1.0)
        return {"servers": servers, **in_child("apart", address, 16, seconds)}
    finally:
        for one in (first, *others):
            one.terminate()
            one.wait()


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Start processes on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pinned(folder: Path, seconds: float) -> dict[str, Any]:
    """Let callers come at random times to a server that has one core, from all the others."""
    its, *others = sorted(os.sched_getaffinity(0))
    with on({its}):
        running, address = server(folder)
    try:
        with on(set(others)):
            callers = [in_child("closed", address, count, seconds) for count in (1, 2, 4, 8)]
            capacity = max(row["per_second"] for row in callers)
            rates = [share * capacity for share in (1.0, 3.0, 10.0)]
            arriving = [in_child("arriving", address, rate, seconds) for rate in rates]
    finally:
        running.terminate()
        running.wait()
    return {"capacity": capacity, "callers": callers, "arriving": arriving}


def in_child(what: str, *words: Any) -> dict[str, Any]:
    """Do one of the above in a process of its own, as callers have one."""
    command = [sys.executable, "-m", "benchmarks.load", "--child", what, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=common.ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def picture(found: dict[str, Any], name: str) -> None:
    """Draw throughput against latency."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    rows = found["callers"]
    for key in ("p50_ms", "p99_ms"):
        left.plot([r["per_second"] for r in rows], [r[key] for r in rows], "o-", label=key[:3])
    for row in rows:
        left.annotate(str(row["callers"]), (row["per_second"], row["p99_ms"]),
                      textcoords="offset points", xytext=(4, 4))  # fmt: skip
    inside, shared = found["in_process"][-1], found["sharing"]
    left.axvline(inside["per_second"], ls="--", color="grey", label="in this process")
    left.plot(shared["per_second"], shared["p99_ms"], "D", label="16, two servers, p99")
    left.set(xlabel="searches a second", ylabel="ms", yscale="log",
             title="Callers who ask again when answered")  # fmt: skip
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_locator(NullLocator())
    left.legend()
    late = right.twinx()
    parts = (
        (found, "sharing two cores", "C0"),
        (found["pinned"], "a core of its own", "C1"),
    )
    for part, where, color in parts:
        if part:
            times = [r["offered"] / part["capacity"] for r in part["arriving"]]
            share = [100 * r["goodput"] / part["capacity"] for r in part["arriving"]]
            right.plot(times, share, "o-", color=color, label=where)
            late.plot(times, [r.get("p99_ms") for r in part["arriving"]], "s:", color=color)
    right.axhline(100, ls="--", color="grey")
    right.set(xlabel="offered, times the capacity", ylabel="answered, % of the capacity",
              xscale="log", ylim=(0, None), title="Callers who come whatever happens")  # fmt: skip
    right.set_xticks([0.25, 0.5, 1, 2, 5, 10], ["¼", "½", "1", "2", "5", "10"])
    right.set_xticks([], minor=True)
    right.legend(loc="lower right")
    late.set(ylabel="p99 of what was answered, ms (dotted)", ylim=(0, 1000 * DEADLINE))
    figure.savefig(common.RESULTS / f"{name}.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", default="load", help="name of the files with the results")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        what, address, number, seconds = asked.child
        work = {"closed": lambda: closed(address, int(number), float(seconds)),
                "apart": lambda: apart(address, int(number), float(seconds)),
                "arriving": lambda: arriving(address, float(number), float(seconds))}  # fmt: skip
        print(json.dumps(work[what]()))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "idx"
        build(folder, asked.documents, asked.recipe)
        found: dict[str, Any] = {"machine": common.machine(), "recipe": asked.recipe}
        found |= {
            "documents": asked.documents,
            "seconds": asked.seconds,
            "load": os.getloadavg()[0],
        }
        cores = os.cpu_count() or 1
        found["in_process"] = [in_process(folder, asked.seconds, n) for n in (1, cores)]
        print(found["in_process"], flush=True)
        running, address = server(folder)
        try:
            found["overhead"] = overhead(folder, address, 300)
            print(found["overhead"], flush=True)
            found["callers"] = []
            for count in CALLERS:
                before = used(running.pid)
                row = in_child("closed", address, count, asked.seconds)
                spent = used(running.pid) - before
                row["server_core_ms"] = 1000 * spent / (row["per_second"] * asked.seconds)
                found["callers"].append(row)
                print(found["callers"][-1], flush=True)
            found["capacity"] = max(row["per_second"] for row in found["callers"])
            found["arriving"] = []
            for share in SHARES:
                rate = share * found["capacity"]
                found["arriving"].append(in_child("arriving", address, rate, asked.seconds))
                print(share, found["arriving"][-1], flush=True)
        finally:
            running.terminate()
            running.wait()
        found["pinned"] = pinned(folder, asked.seconds) if cores > 1 else {}
        print(found["pinned"], flush=True)
        found["sharing"] = sharing(folder, asked.seconds, cores)
        print(found["sharing"], flush=True)
    inside = found["in_process"][-1]["per_second"]
    found["share_of_in_process"] = found["capacity"] / inside
    found["share_of_in_process_sharing"] = found["sharing"]["per_second"] / inside
    picture(found, asked.out)
    print(f"written to {common.save(asked.out, found)}")


if __name__ == "__main__":
    main()
