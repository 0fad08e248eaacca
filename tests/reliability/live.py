"""Kills a process in which several threads write to an index through its queue.

Here the whole of an index is at work: vectors are reduced and encoded, one thread commits for all,
another compacts. Every thread has documents of its own and waits for each change, so at most one
change of a document is in flight when the process dies.
"""

import os
import random
import signal
import struct
import threading
import time
import traceback
from pathlib import Path

import torch

from colreduce.errors import ColreduceError, NotFound
from colreduce.index import Index, WriteQueue
from tests.reliability.crash import Figures, exit_code, in_child_with

RECIPE = "pca(dim=4) | window(factor=2) | int8 | mean"
DIM, THREADS, OWN = 8, 3, 5
BEGUN, DONE, OPEN = 1, 2, 3
LINE = struct.Struct("<iiii")  # what, thread, document, number (negative for a deletion)


def vectors(number):
    """Return a document that tells its number by its length, too."""
    return torch.full((2 + number % 5, DIM), 1.0 + number % 7) + torch.eye(DIM)[: 2 + number % 5]


def name(thread, document):
    return f"thread-{thread}-{document}"


def _write(index, queue, thread, first, tell, seed):
    draw = random.Random(seed)
    number = first
    while True:
        number += THREADS
        document = draw.randrange(OWN)
        one, gone = name(thread, document), draw.random() < 0.3
        told = -number if gone else number
        tell(BEGUN, thread, document, told)
        if gone:
            queue.submit_delete([one]).result()
        else:
            metadata = [{"n": number}]
            queue.submit_upsert([one], embeddings=[vectors(number)], metadata=metadata).result()
        if _held(index, one) != max(told, 0):
            os._exit(3)  # acknowledged, and not seen
        tell(DONE, thread, document, told)


def _write_or_die(*plan):
    try:
        _write(*plan)
    except BaseException:
        traceback.print_exc()
        os._exit(4)


def _held(index, one):
    """Return the number that a document tells, 0 if it is not there."""
    try:
        [found] = index.get([one], vectors=True)
    except NotFound:
        return 0
    number = int(found.metadata["n"])
    if len(found.vectors) != (2 + number % 5) // 2:
        raise AssertionError(f"{one} tells {number} and has {len(found.vectors)} vectors")
    return number


def queue_kills(folder: Path, seed, kills, longest=0.4):
    """Kill the writing process again and again at random times; the index is never made anew."""
    figures = Figures()
    path = folder / "index"
    with Index.create(path, recipe=RECIPE, dim=DIM, keep_sample=False) as index:
        every = range(1, 41)
        metadata = [{"n": n} for n in every]
        index.add([f"first-{n}" for n in every], embeddings=list(map(vectors, every)),
                  metadata=metadata)  # fmt: skip
    state: dict[tuple[int, int], int] = {}
    draw = random.Random(seed)
    while figures.kills < kills and len(figures.failures) < 3:
        base = (figures.kills + 1) * 1_000_000

        def work(send, base=base):
            def tell(*what):
                os.write(send, LINE.pack(*what))

            index = Index.open(path)
            index.acquire()
            queue = WriteQueue(index)
            tell(OPEN, 0, 0, 0)
            for thread in range(THREADS):
                plan = (index, queue, thread, base + thread, tell, base + thread)
                threading.Thread(target=_write_or_die, args=plan, daemon=True).start()
            time.sleep(600)

        child, receive = in_child_with(work)
        told = os.read(receive, LINE.size)
        time.sleep(draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        while block := os.read(receive, 65536):
            told += block
        os.close(receive)
        figures.runs += 1
        if exit_code(child) != -signal.SIGKILL:
            figures.fail(f"kill {figures.kills}", RuntimeError("the child ended by itself"))
            break
        figures.kills += 1
        _follow(figures, path, state, list(LINE.iter_unpack(told[: len(told) // 16 * 16])))
    return figures


def _follow(figures, path, state, lines):
    """Compare every document with what was acknowledged of it, or was in flight."""
    flying = {}
    for what, thread, document, number in lines:
        place = (thread, document)
        if what == BEGUN:
            flying[place] = max(number, 0)
        elif what == DONE:
            figures.acked += 1
            state[place] = flying.pop(place)
    figures.in_flight += bool(flying)
    try:
        with Index.open(path) as index:
            known = {name(*place) for place in [*state, *flying]}
            known |= {f"first-{n}" for n in range(1, 41)}
            for place in set(state) | set(flying):
                allowed = {state.get(place, 0), flying.get(place, state.get(place, 0))}
                found = _held(index, name(*place))
                if found not in allowed:
                    figures.failures.append(f"{name(*place)} tells {found}, allowed {allowed}")
                state[place] = found
            hits = index.search(torch.ones(1, DIM), k=200, exact=True)
            found = {hit.id for hit in hits}
            if len(hits) != len(index) or not found <= known:
                figures.failures.append(f"a search finds {found - known} and {len(hits)} documents")
    except (ColreduceError, OSError, AssertionError) as problem:
        figures.fail(f"kill {figures.kills}", problem)
