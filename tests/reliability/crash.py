"""Kills a process that writes to an index: after every operation, or at a random time."""

import os
import random
import signal
import struct
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from colreduce.errors import AlreadyExists, ColreduceError, NotAnIndex
from colreduce.store import Store, fs
from tests.reliability import workload


@dataclass
class Figures:
    """What a campaign counted. A failure is a lost or made-up write, or an index that is shut."""

    runs: int = 0
    kills: int = 0
    in_flight: int = 0
    acked: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, where, problem):
        told = "".join(traceback.format_exception_only(problem)).strip()
        self.failures.append(f"{where}: {told}")


def in_child(work):
    """Run ``work(ack)`` in a forked process; return it with where its acks arrive, unbuffered."""
    return in_child_with(
        lambda send: work(lambda number: os.write(send, struct.pack("<i", number)))
    )


def in_child_with(work):
    """Run ``work(send)`` in a forked process, where ``send`` is the end of a pipe to write to."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(receive)
            work(send)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(send)
    return child, receive


def acks_of(receive):
    """Return the acknowledgements that came through, in order."""
    data = b""
    while block := os.read(receive, 65536):
        data += block
    os.close(receive)
    return [number for (number,) in struct.iter_unpack("<i", data)]


def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_steps(path, made, ack, begun=lambda number: None):
    """Create or open an index and do the steps, acknowledging each; -1 acknowledges the index."""
    try:
        store = Store.create(path, {"made": "by the crash test"})
    except AlreadyExists:
        store = Store.open(path, write=True)
    ack(-1)
    for step in made:
        begun(step.number)
        store = workload.apply(store, step)
        ack(step.number)
    store.close()


def after_every_operation(folder: Path, seed, count, stride=1, offset=0, stop_at=6):
    """Kill the whole workload after operation 1, 2, 3, ... each in a new index."""
    figures = Figures()
    made = workload.steps(seed, count)
    truth = workload.states(made)
    assert {step.kind for step in made} == set(workload.KINDS), "a kind of step is missing"
    point = 1 + offset
    while True:
        path = folder / f"op-{point}"

        def work(ack, path=path, point=point):
            fs.SEAM.arm(crash_at=str(point))
            run_steps(path, made, ack)

        child, receive = in_child(work)
        acks, code = acks_of(receive), exit_code(child)
        figures.runs += 1
        if code == 0 or len(figures.failures) >= stop_at:
            break
        if code != -signal.SIGKILL:
            figures.fail(f"operation {point}", RuntimeError(f"exit code {code}"))
            break
        figures.kills += 1
        figures.acked += len(acks)
        figures.in_flight += 1
        _verify(figures, path, truth, made, acks, f"seed {seed}, operation {point}")
        fs.rmtree(path)
        point += stride
    return figures


def _verify(figures, path, truth, made, acks, where):
    """Check what is there, then finish the workload and check again."""
    done = max([number for number in acks if number > 0], default=0)
    allowed = truth[done : done + 2]
    try:
        if -1 not in acks:
            try:
                Store.open(path).close()
            except NotAnIndex:
                Store.create(path, {"made": "again"}).close()
        workload.check(path, allowed)
        store = Store.open(path, write=True)
        at = done + 1 if workload.read(store.snapshot())[1] == truth[done] else done + 2
        for step in made[at - 1 :][:4]:
            store = workload.apply(store, step)
            if workload.read(store.snapshot())[1] != truth[step.number]:
                raise workload.Mixed(f"step {step.number} after the crash went wrong")
        store.close()
    except (ColreduceError, workload.Mixed, OSError, ValueError) as problem:
        figures.fail(where, problem)


def inside_recovery(folder: Path, seed, images, stride=1):
    """Kill the recovery of killed indexes after each of its operations, then open for good."""
    figures = Figures()
    made = workload.steps(seed, 14)
    truth = workload.states(made)
    draw = random.Random(seed)
    for image in range(images):
        origin = folder / f"image-{image}"
        acks = _crash_image(origin, made, draw.randint(30, 330))
        done = max([number for number in acks if number > 0], default=0)
        point = 1
        while -1 in acks:
            path = folder / "copy"
            _copy(origin, path)

            def work(ack, path=path, point=point):
                fs.SEAM.arm(crash_at=str(point))
                Store.open(path, write=True).close()

            child, receive = in_child(work)
            acks_of(receive)
            code = exit_code(child)
            figures.runs += 1
            figures.kills += code == -signal.SIGKILL
            try:
                workload.check(path, truth[done : done + 2])
            except (ColreduceError, workload.Mixed, OSError, ValueError) as problem:
                figures.fail(f"image {image}, operation {point} of its recovery", problem)
            fs.rmtree(path)
            if code == 0:
                break
            point += stride
        fs.rmtree(origin)
    return figures


def while_saving(folder: Path, seed, stride=1):
    """Kill saving, then restoring, after each operation: a copy is complete or it is not there."""
    figures = Figures()
    made = workload.steps(seed, 9)
    truth = workload.states(made)[-1]
    origin, copy = folder / "origin", folder / "whole.tar"
    run_steps(origin, made, lambda number: None)
    Store.open(origin).save_to(copy)
    for what in ("save", "restore"):
        point, code = 1, -signal.SIGKILL
        while code == -signal.SIGKILL:
            tar, target = folder / f"{what}-{point}.tar", folder / f"{what}-{point}"

            def work(ack, point=point, what=what, tar=tar, target=target):
                fs.SEAM.arm(crash_at=str(point))
                if what == "save":
                    Store.open(origin).save_to(tar)
                else:
                    Store.restore(copy, target).close()

            child, receive = in_child(work)
            acks_of(receive)
            code = exit_code(child)
            figures.runs += 1
            figures.kills += code == -signal.SIGKILL
            try:
                if what == "save" and tar.exists():
                    Store.restore(tar, target).close()
                if target.exists():
                    workload.check(target, [truth])
                elif code == 0:
                    raise workload.Mixed("it ended well and left nothing")
            except (ColreduceError, workload.Mixed, OSError) as problem:
                figures.fail(f"{what}, operation {point}", problem)
            point += stride
    return figures


def _crash_image(path, made, point):
    def work(ack):
        fs.SEAM.arm(crash_at=str(point))
        run_steps(path, made, ack)

    child, receive = in_child(work)
    acks = acks_of(receive)
    exit_code(child)
    return acks


def _copy(source, target):
    for inner in sorted(source.rglob("*")):
        place = target / inner.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if inner.is_dir():
            place.mkdir(exist_ok=True)
        elif inner.name != "BALLAST":
            place.write_bytes(inner.read_bytes())


def at_random_times(folder: Path, seed, kills, longest=0.15, early=False):
    """Kill one index again and again at random times; it is never made anew.

    The child says when it begins a step and when the step is done, so the oracle here knows
    whether the kill hit a step in flight. With ``early`` it lies, which must be noticed.
    """
    figures = Figures()
    path = folder / "index"
    Store.create(path, {}).close()
    state, at = {}, 0
    draw = random.Random(seed)
    while figures.kills < kills:
        made = workload.steps(seed, 400, first=at + 1)

        def work(ack, made=made):
            store = Store.open(path, write=True)
            ack(-1)
            for step in made:
                ack(-step.number - 1)
                if early:
                    ack(step.number)
                store = workload.apply(store, step)
                ack(step.number)
            time.sleep(60)

        child, receive = in_child(work)
        # Counted from the moment the index is open, or half of the kills would hit the opening.
        first = os.read(receive, 4) if draw.random() < 0.8 else b""
        time.sleep(draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        acks = [n for (n,) in struct.iter_unpack("<i", first)] + acks_of(receive)
        if exit_code(child) != -signal.SIGKILL:
            figures.fail(f"kill {figures.kills}", RuntimeError("the child died by itself"))
            break
        figures.kills += 1
        figures.runs += 1
        state, at = _follow(figures, path, made, acks, state, at)
        if len(figures.failures) > 5:
            break
    return figures


def _follow(figures, path, made, acks, state, at):
    """Check the index after a kill; return the state it is in and its step."""
    done = max([number for number in acks if number > 0], default=at)
    begun = max([-number - 1 for number in acks if number < -1], default=at)
    figures.acked += done - at
    figures.in_flight += begun > done
    for step in made[: done - at]:
        state = workload.expected(state, step)
    allowed = [state]
    if begun > done:
        allowed.append(workload.expected(state, made[done - at]))
    try:
        workload.check(path, allowed)
        with Store.open(path) as reader:
            found = workload.read(reader.snapshot())[1]
        return found, done if found == state else begun
    except (ColreduceError, workload.Mixed, OSError, ValueError) as problem:
        figures.fail(f"kill {figures.kills} near step {done}", problem)
        return state, begun
