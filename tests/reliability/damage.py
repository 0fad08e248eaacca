"""Flips bits of and cuts off the files of an index; a wrong answer is never given."""

import itertools
import os
import random
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from colreduce.errors import ColreduceError, Damaged
from colreduce.store import Store, fs
from tests.reliability import workload


@dataclass
class Figures:
    tried: int = 0
    refused: int = 0
    harmless: int = 0  # in a file that the newest generation does not need
    failures: list[str] = field(default_factory=list)


def make(path: Path):
    """Make an index with every kind of file and record, and return what is in it."""
    made = workload.steps(3, 9)
    store = Store.create(path, {"made": "to be damaged"})
    for step in made:
        store = workload.apply(store, step)
    assert store.snapshot().models
    assert len(store.snapshot().segments) > 1
    store.close()
    return workload.states(made)[-1]


def truth_files(path: Path):
    """Return (files of the newest generation, files only older generations need)."""
    with Store.open(path) as store:
        snapshot = store.snapshot()
        needed = snapshot.manifest.names()
        newest = f"manifest-{snapshot.generation:010d}.json"
    now, older = [], []
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        if file.parent.name in needed or file.name == newest:
            now.append(file)
        elif file.name.startswith("manifest") or file.parent.parent.name in {"segments", "models"}:
            older.append(file)
    return now, older


def campaign(folder: Path, seed, flips=1, stride=1):
    """Flip bits of every byte and cut off at every length; every ``stride``-th of them."""
    figures = Figures()
    path = folder / "index"
    documents = make(path)
    draw = random.Random(seed)
    now, older = truth_files(path)
    for file, needed in [(f, True) for f in now] + [(f, False) for f in older]:
        good = file.read_bytes()
        file.chmod(0o644)
        step = stride if needed else stride * 10
        for place in range(draw.randrange(step), len(good), step):
            for _ in range(flips):
                bad = bytes([good[place] ^ (1 << draw.randrange(8))])
                _change(file, place, bad)
                _look(figures, path, file, documents, needed, f"byte {place}")
                _change(file, place, good[place : place + 1])
        for length in range(draw.randrange(step), len(good), step):
            file.write_bytes(good[:length])
            _look(figures, path, file, documents, needed, f"cut at {length}")
        for bad in (good + b"\0", bytes(len(good))):
            file.write_bytes(bad)
            if bad != good:
                _look(figures, path, file, documents, needed, "longer or zeroed")
        file.unlink()
        # A missing older manifest may mean that the newest of all was lost, so it is refused.
        _look(figures, path, file, documents, needed or "manifest" in file.name, "deleted")
        file.symlink_to("/dev/zero")
        _look(figures, path, file, documents, needed, "a link")
        file.unlink()
        file.write_bytes(good)
    _swap(figures, path, now, documents)
    with Store.open(path) as store:
        assert workload.read(store.snapshot())[1] == documents, "the harness left damage behind"
    return figures


def _change(file, place, byte):
    fd = os.open(file, os.O_WRONLY)
    os.pwrite(fd, byte, place)
    os.close(fd)


def _look(figures, path, file, documents, needed, what):
    figures.tried += 1
    try:
        with Store.open(path) as store:
            found = workload.read(store.snapshot())[1]
    except Damaged as problem:
        named = file.name in str(problem) or "manifest" in file.name
        if needed and named:
            figures.refused += 1
        else:
            figures.failures.append(f"{file.name}, {what}: refused with {problem}")
    except Exception as problem:
        figures.failures.append(f"{file.name}, {what}: {type(problem).__name__}: {problem}")
    else:
        if needed or found != documents:
            figures.failures.append(f"{file.name}, {what}: it opened and showed {found}")
        else:
            figures.harmless += 1


def _swap(figures, path, now, documents):
    """Two files with their names exchanged."""
    for one, two in itertools.pairwise(now):
        first, second = one.read_bytes(), two.read_bytes()
        if first == second:
            continue
        one.write_bytes(second)
        two.write_bytes(first)
        figures.tried += 1
        try:
            Store.open(path).close()
            figures.failures.append(f"{one.name} and {two.name} were swapped, and it opened")
        except (Damaged, FileNotFoundError):
            figures.refused += 1
        one.write_bytes(first)
        two.write_bytes(second)


def lost_manifest(folder: Path):
    """Lose the newest manifests, with and without the catalogue; no segment may be deleted."""
    figures = Figures()
    for count, lost, catalogue in itertools.product((2, 3, 5), (1, 2), (True, False)):
        path = folder / f"lost-{count}-{lost}-{catalogue}"
        store = Store.create(path, {})
        for step in workload.steps(3, count):
            store = workload.apply(store, step)
        store.close()
        for name in sorted(path.glob("manifest-*.json"))[-lost:]:
            name.unlink()
        if not catalogue:
            (path / "catalogue.sqlite3").unlink()
        segments = {p.name for p in path.rglob("seg-*")}
        figures.tried += 1
        try:
            Store.open(path, write=True).close()
            figures.harmless += 1
        except Damaged:
            figures.refused += 1
        if {p.name for p in path.rglob("seg-*")} != segments:
            figures.failures.append(f"{lost} of {count} manifests lost: a segment was deleted")
    if not figures.refused or not figures.harmless:
        figures.failures.append("the harness has not met both outcomes")
    return figures


def catalogue(folder: Path, seed, count):
    """Damage the catalogue; the index opens every time, and the catalogue is right again."""
    figures = Figures()
    path = folder / "index"
    documents = make(path)
    file = path / "catalogue.sqlite3"
    good = file.read_bytes()
    draw = random.Random(seed)
    for number in range(count):
        bad = bytearray(good)
        if number % 10 == 9:
            bad = bad[: draw.randrange(len(bad))]
        else:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        file.unlink(missing_ok=True)
        file.write_bytes(bad)
        figures.tried += 1
        try:
            with Store.open(path, write=True) as store:
                workload.check_catalogue(store)
                assert workload.read(store.snapshot())[1] == documents
            figures.harmless += 1
        except (ColreduceError, sqlite3.Error, workload.Mixed, OSError, AssertionError) as problem:
            figures.failures.append(f"change {number} of the catalogue: {problem}")
    return figures


def failing_operations(folder: Path, seed, stride=1):
    """Let every operation of a workload fail once, in each way a disk fails."""
    figures = Figures()
    made = workload.steps(seed, 14)
    truth = workload.states(made)
    for error in ("ENOSPC", "EDQUOT", "EIO", "SHORT"):
        point = draw_from(seed, error, stride)
        while True:
            path = folder / f"{error}-{point}"
            fs.SEAM.arm(fail_at=f"{point}:{error}")
            reached = _run_on(figures, path, made, truth, f"{error} at operation {point}")
            hit = fs.SEAM.count >= point
            fs.SEAM.arm()
            figures.tried += 1
            if reached is not None:
                with suppress(FileNotFoundError):
                    shutil.rmtree(path)
            if not hit or len(figures.failures) > 5:
                break
            point += stride
    return figures


def draw_from(seed, error, stride):
    return 1 + random.Random(f"{seed} {error}").randrange(stride)


def _run_on(figures, path, made, truth, where):
    """Do the workload, doing again what failed; the index must never show anything else."""
    store, number = None, 0
    for _ in range(len(made) + 6):
        try:
            if store is None:
                store = _opened(path)
            while number < len(made):
                store = workload.apply(store, made[number])
                number += 1
            break
        except (ColreduceError, OSError) as problem:
            figures.refused += 1
            try:
                number = _where(store, path, truth, number)
            except (ColreduceError, workload.Mixed) as worse:
                figures.failures.append(f"{where}: {worse} after {problem}")
                return None
            if store is not None and (store.trouble or not store.writable):
                store.close()
                store = None
    if store is None or workload.read(store.snapshot())[1] != truth[-1]:
        figures.failures.append(f"{where}: the workload did not come to its end")
        return None
    store.close()
    return number


def _opened(path):
    if any(path.glob("manifest-*.json")):
        return Store.open(path, write=True)
    return Store.create(path, {})


def _where(store, path, truth, number):
    """Return how many steps the index shows: those done, or one more if the disk was unsure."""
    if not any(path.glob("manifest-*.json")):
        return 0
    with Store.open(path) as reader:
        found = workload.read(reader.snapshot())[1]
    if found == truth[number]:
        return number
    if store is not None and store.trouble and found == truth[number + 1]:
        return number + 1
    raise workload.Mixed(f"after {number} steps it shows {found}")
