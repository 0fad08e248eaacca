"""Work on a CPU in threads: several items at a time, or one thread where many would only wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and as many as before afterwards.

    For work in small steps, such as k-means for codebooks: many threads that meet after every
    small step wait for each other, and beside other programs on the same cores they wait forty
    times as long as one thread works.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_out(count: int, run: Callable[[int, int], None]) -> None:
    """Call ``run(start, end)`` for runs of documents that together are 0 .. ``count``.

    As many runs go on at a time as torch may use threads. ``run`` is expected to release the GIL.
    """
    workers = min(torch.get_num_threads(), count)
    if workers < 2:
        run(0, count)
        return
    # Smaller pieces than threads, for documents take unequally long.
    pieces = min(count, workers * 4)
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))


def side_by_side(items: Sequence[Item], work: Callable[[Item], None], name: str) -> None:
    """Do ``work`` for every item, on the CPU, in as many threads as torch may use.

    ``name`` says whose threads these are: work of one name waits for no other's. In each of them
    torch computes alone. Threads of torch's own, shared by the steps of one item after the other,
    keep a core busy with waiting for the next step, while native code between two steps wants it:
    two threads were then slower than one.
    """
    workers = min(torch.get_num_threads(), len(items))
    if workers < 2:
        for item in items:
            work(item)
        return
    waiting, turn = iter(items), threading.Lock()
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def take(_: int) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            while True:
                with turn:
                    item = next(waiting, None)
                if item is None:
                    return
                work(item)

    list(_alone(torch.get_num_threads(), name).map(take, range(workers)))


@cache
def _alone(workers: int, name: str) -> ThreadPoolExecutor:
    """Return threads in each of which torch uses one."""
    begun = threading.Barrier(workers + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes the number over when it is first asked for
        begun.wait()

    pool = ThreadPoolExecutor(workers, name, initializer=begin)
    for _ in range(workers):
        pool.submit(int)  # a thread is begun for each, for none of them is idle yet
    begun.wait()
    # What was said in those threads is theirs, but is also what threads to come begin with.
    torch.set_num_threads(workers)
    return pool


# A child has none of these threads.
os.register_at_fork(after_in_child=_alone.cache_clear)
