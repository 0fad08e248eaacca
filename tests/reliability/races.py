"""Two writers at once, and readers that open an index while it changes under them."""

import os
import signal
import time
from pathlib import Path

from colreduce.errors import ColreduceError, Locked
from colreduce.store import Store, fs
from tests.reliability import workload
from tests.reliability.crash import Figures, acks_of, exit_code, in_child

WON, LOST, FENCED = 1, 2, 3


def two_writers(folder: Path, rounds):
    """Release two processes at once; exactly one may write, and a killed one blocks nobody."""
    figures = Figures()
    path = folder / "index"
    Store.create(path, {}).close()
    for number in range(rounds):
        go, gun = os.pipe()

        def work(ack, go=go, gun=gun):
            os.close(gun)
            os.read(go, 1)
            try:
                store = Store.open(path, write=True)
            except Locked:
                return ack(LOST)
            with store.begin() as writer:
                workload.fill(writer, ["a"], 1)
                store.commit([writer])
            ack(WON)
            time.sleep(30)

        pair = [in_child(work) for _ in range(2)]
        os.close(go)
        os.close(gun)
        told = [os.read(receive, 4)[:1] for _, receive in pair]
        for child, receive in pair:
            os.kill(child, signal.SIGKILL)
            acks_of(receive)
            exit_code(child)
        figures.runs += 1
        figures.kills += 1
        if sorted(told) != [bytes([WON]), bytes([LOST])]:
            figures.failures.append(f"round {number}: the two writers said {told}")
        try:
            Store.open(path, write=True).close()
        except ColreduceError as problem:
            figures.fail(f"after round {number}", problem)
    return figures


def fenced_without_a_lock(folder: Path, rounds):
    """With the lock switched off, the manifest's link lets one of two writers through."""
    figures = Figures()
    taken = fs.fcntl.flock
    for number in range(rounds):
        path = folder / f"index-{number}"
        Store.create(path, {}).close()
        fs.fcntl.flock = lambda fd, how: None
        try:
            both = [Store.open(path, write=True) for _ in range(2)]
            done = []
            for value, store in enumerate(both):
                writer = store.begin()
                workload.fill(writer, [f"doc-{value}"], value)
                try:
                    store.commit([writer])
                    done.append(value)
                except Locked:
                    figures.kills += 1
                    if store.writable:
                        figures.failures.append("the fenced writer would write on")
            for store in both:
                store.close()
        finally:
            fs.fcntl.flock = taken
        figures.runs += 1
        with Store.open(path, write=True) as store:
            found = workload.read(store.snapshot())[1]
        if len(done) != 1 or found != {f"doc-{done[0]}": done[0]}:
            figures.failures.append(f"round {number}: {done} were committed, {found} is there")
    return figures


def readers(folder: Path, seconds, processes=3):
    """Readers refresh and open anew while one process rewrites every document, over and over.

    All documents always tell the same number, so any mixture of generations shows.
    """
    figures = Figures()
    path = folder / "index"
    store = Store.create(path, {})
    ids = workload.POOL

    def put(number):
        writer = store.begin()
        workload.fill(writer, ids, number)
        store.commit([writer])

    put(0)

    def look(ack):
        last, until = -1, time.monotonic() + seconds
        reader = Store.open(path)
        while time.monotonic() < until:
            for view in (Store.open(path).snapshot(), reader.refresh()):
                values = set(workload.read(view)[1].values())
                if len(values) != 1 or view.generation < last:
                    raise workload.Mixed(f"generation {view.generation} shows {values}")
                last = view.generation
                ack(last)

    children = [in_child(look) for _ in range(processes)]
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1
        put(number)
        store.compact(purge=number % 3 == 0, rewrite=workload.rewrite)
    store.close()
    generations = set()
    for child, receive in children:
        acks = acks_of(receive)
        figures.runs += len(acks)
        generations |= set(acks)
        if exit_code(child) != 0:
            figures.failures.append("a reader failed; its trace is above")
    figures.acked = len(generations)
    return figures
