"""What a disk may hold after the power went: built from the trace of the seam, and opened.

The model is that of POSIX and no kinder. Bytes are safe once their file was fsynced; a name is safe
once its folder was. Before that, any part may be there: a file may be short, empty, full of zeros
or half written, and of the names added and removed since the last fsync of a folder any subset may
have taken effect. A rename within one folder takes effect as a whole or not at all. Not modelled:
disks that lie about fsync, and blocks reordered inside one fsync.
"""

import hashlib
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from colreduce.errors import ColreduceError, NotAnIndex
from colreduce.store import Store, fs
from tests.reliability import workload
from tests.reliability.crash import Figures

EVERYTHING, FORCED, NAMES, ZEROS, TORN, MIXED = range(6)
MODES = (EVERYTHING, FORCED, NAMES, ZEROS, TORN)


@dataclass
class File:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    last: int = 0  # where the last write begins


@dataclass
class Folder:
    """A folder's safe names, and the changes since: (name, node or None) applied together."""

    safe: dict = field(default_factory=dict)
    pending: list = field(default_factory=list)

    def now(self):
        names = dict(self.safe)
        for change in self.pending:
            _apply(names, change)
        return names


def _apply(names, change):
    for name, node in change:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """Follows a trace."""

    def __init__(self, root):
        self.root = PurePosixPath(root)
        self.top = Folder()

    def at(self, path):
        node = self.top
        for part in PurePosixPath(path).relative_to(self.root).parts:
            node = node.now()[part]
        return node

    def follow(self, event):
        kind, path, *rest = event
        if not PurePosixPath(path).is_relative_to(self.root) or path == str(self.root):
            if kind == "fsync_dir" and path == str(self.root):
                self._settle(self.top)
            return
        parent, name = self.at(PurePosixPath(path).parent), PurePosixPath(path).name
        if kind in {"create", "mkdir"}:
            parent.pending.append([(name, File() if kind == "create" else Folder())])
        elif kind == "write":
            file = parent.now()[name]
            file.last = len(file.data)
            file.data += rest[0]
        elif kind == "fsync":
            file = parent.now()[name]
            file.synced = len(file.data)
        elif kind == "fsync_dir":
            self._settle(parent.now()[name])
        elif kind in {"unlink", "rmdir"}:
            parent.pending.append([(name, None)])
        elif kind == "link":
            self._name(rest[0], parent.now()[name])
        elif kind == "rename":
            target = PurePosixPath(rest[0])
            node = parent.now()[name]
            if target.parent == PurePosixPath(path).parent:
                parent.pending.append([(name, None), (target.name, node)])
            else:
                self._name(rest[0], node)
                parent.pending.append([(name, None)])
        else:
            raise AssertionError(f"the simulator does not know {kind!r}")

    def _name(self, path, node):
        self.at(PurePosixPath(path).parent).pending.append([(PurePosixPath(path).name, node)])

    @staticmethod
    def _settle(folder):
        folder.safe, folder.pending = folder.now(), []

    def after_power_loss(self, mode, draw):
        """Yield (path, bytes or None for a folder) of all that may be found."""
        yield from self._found(self.top, PurePosixPath(), mode, draw)

    def _found(self, folder, path, mode, draw):
        for name, node in sorted(self._names(folder, mode, draw).items()):
            if isinstance(node, Folder):
                yield path / name, None
                yield from self._found(node, path / name, mode, draw)
            else:
                yield path / name, _content(node, mode, draw)

    @staticmethod
    def _names(folder, mode, draw):
        if mode == FORCED:
            return folder.safe
        if mode != MIXED:
            return folder.now()
        names = dict(folder.safe)
        pending = folder.pending
        if draw.random() < 0.5:
            pending = pending[: draw.randint(0, len(pending))]
        else:
            pending = [change for change in pending if draw.random() < 0.5]
        for change in pending:
            _apply(names, change)
        return names


def _content(file, mode, draw):
    whole, safe = bytes(file.data), bytes(file.data[: file.synced])
    loose = len(whole) - len(safe)
    if mode == MIXED and loose:
        mode = draw.choice((EVERYTHING, FORCED, ZEROS, TORN, MIXED))
    if mode == EVERYTHING or not loose:
        return whole
    if mode in (FORCED, NAMES):
        return safe
    if mode == ZEROS:
        return safe + bytes(loose)
    if mode == TORN:
        begin = max(file.last, file.synced)
        return whole[: begin + (len(whole) - begin) // 2]
    return whole[: file.synced + draw.randint(0, loose)]


def record(folder: Path, made):
    """Do the workload once; return its trace, with what was acknowledged and the catalogues."""
    path = folder / "recorded"
    path.mkdir()
    shelf = []
    with fs.recording() as trace:
        store = Store.create(path, {"made": "by the power-loss test"})
        trace.append(("ack", -1))
        for step in made:
            trace.append(("begin", step.number))
            store = workload.apply(store, step)
            shelf.append((path / "catalogue.sqlite3").read_bytes())
            trace.append(("catalogue", len(shelf) - 1))
            trace.append(("ack", step.number))
        store.close()
    return path, trace, shelf


def campaign(folder: Path, seed, count, mixes=1, stride=1, stop_at=6):
    """Cut the power at every place of a workload's trace and open every state it may leave.

    ``runs`` counts the states, ``kills`` those that differed from all opened before.
    """
    figures = Figures()
    made = workload.steps(seed, count)
    assert {step.kind for step in made} == set(workload.KINDS), "a kind of step is missing"
    truth = workload.states(made)
    path, trace, shelf = record(folder, made)
    draw = random.Random(seed)
    disk, done, begun, catalogue = Disk(str(path)), None, 0, None
    seen = set()
    for place, event in enumerate(trace):
        if event[0] == "ack":
            done = 0 if event[1] == -1 else event[1]
        elif event[0] == "begin":
            begun = event[1]
        elif event[0] == "catalogue":
            catalogue = shelf[event[1]]
        else:
            disk.follow(event)
        if place % stride:
            continue
        for mode in (*MODES, *(MIXED,) * mixes):
            figures.runs += 1
            found = list(disk.after_power_loss(mode, draw))
            found += _catalogue(draw, catalogue)
            key = hashlib.sha256(repr((found, done, begun)).encode()).digest()
            if key in seen:
                continue
            seen.add(key)
            figures.kills += 1
            figures.in_flight += begun != done
            where = f"seed {seed}, after event {place} {event[:2]}, mode {mode}"
            _open(figures, folder / "state", found, done, begun, truth, where)
            if len(figures.failures) >= stop_at:
                return figures
    figures.acked = done
    return figures


def _catalogue(draw, newest):
    """SQLite's file is not in the trace: it may be absent, as it was, or garbage."""
    kind = draw.randrange(4)
    if kind == 0 or newest is None:
        return []
    if kind == 1:
        return [(PurePosixPath("catalogue.sqlite3"), draw.randbytes(300))]
    if kind == 2:
        return [(PurePosixPath("catalogue.sqlite3"), newest[: draw.randrange(len(newest))])]
    return [(PurePosixPath("catalogue.sqlite3"), newest)]


def _open(figures, path, found, done, begun, truth, where):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, data in found:
        if data is None:
            (path / name).mkdir()
        else:
            (path / name).write_bytes(data)
    try:
        if done is None:
            try:
                Store.open(path).close()
            except NotAnIndex:
                Store.create(path, {}).close()
        allowed = [truth[done or 0]]
        if begun > (done or 0):
            allowed.append(truth[begun])
        workload.check(path, allowed)
    except (ColreduceError, workload.Mixed, OSError, ValueError, KeyError) as problem:
        figures.fail(where, problem)
