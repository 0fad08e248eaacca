"""Any sequence of operations leaves a store holding what a dict would hold."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from colreduce.errors import DiskFull, Locked, ReadOnly
from colreduce.store import Store, fs, verify
from tests.reliability import workload

IDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4)
BURIED = []  # stores whose process is as good as dead; kept so that nothing is closed for them


class StoreMachine(RuleBasedStateMachine):
    """Every rule changes the store and the dict; every check compares the two."""

    snapshots = Bundle("snapshots")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="colreduce-machine-", dir=workload.quick_disk()))
        self.path = self.folder / "index"
        self.numbers = itertools.count(1)

    @initialize()
    def create(self):
        self.store = Store.create(self.path, {"k": [1, 2]})
        self.reader = Store.open(self.path)
        self.documents = {}
        self.generation = 1

    def commit(self, writers):
        number = self.store.commit(writers)
        assert number >= self.generation
        self.generation = number

    @rule(ids=IDS)
    def upsert(self, ids):
        number = next(self.numbers)
        writer = self.store.begin()
        workload.fill(writer, ids, number)
        self.commit([writer])
        self.documents |= dict.fromkeys(ids, number)

    @rule(ids=IDS)
    def delete(self, ids):
        writer = self.store.begin()
        writer.delete(ids)
        self.commit([writer])
        for name in ids:
            self.documents.pop(name, None)

    @rule(ids=IDS, more=IDS, gone=IDS)
    def several_segments_at_once(self, ids, more, gone):
        writers = []
        for names in (ids, more):
            number = next(self.numbers)
            writers.append(self.store.begin())
            workload.fill(writers[-1], names, number)
            writers[-1].delete(gone)
            self.documents |= dict.fromkeys(names, number)
            for name in gone:
                self.documents.pop(name, None)
        self.commit(writers)

    @rule(ids=IDS)
    def begin_and_abort(self, ids):
        writer = self.store.begin()
        workload.fill(writer, ids, 0)
        writer.abort()

    @rule(data=st.data())
    def compact_some(self, data):
        names = [segment.name for segment in self.store.snapshot().segments]
        if names:
            chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
            self.store.compact(chosen, rewrite=workload.rewrite)

    @rule()
    def compact_all(self):
        self.store.compact(rewrite=workload.rewrite)
        assert len(self.store.snapshot().segments) <= 1

    @rule()
    def compact_what_is_due(self):
        self.store.compact(self.store.due(), rewrite=workload.rewrite)

    @rule()
    def purge(self):
        self.store.compact(purge=True, rewrite=workload.rewrite)

    @rule(ids=IDS)
    def compact_while_writing(self, ids):
        number = next(self.numbers)

        def meanwhile(moved, writer):
            workload.rewrite(moved, writer)
            new = self.store.begin()
            workload.fill(new, ids, number)
            new.delete(["g"])
            self.store.commit([new])
            self.documents.update(dict.fromkeys(ids, number))
            self.documents.pop("g", None)

        self.store.compact(rewrite=meanwhile)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = Store.open(self.path, write=True)

    @rule()
    def change_places(self):
        with pytest.raises(Locked):
            self.reader.acquire()
        self.store.close()
        self.reader.acquire()
        self.store, self.reader = self.reader, Store.open(self.path)

    @rule(point=st.integers(1, 60), ids=IDS)
    def die_at_some_operation(self, point, ids):
        """A failed operation, and then silence: what a dead process leaves on the disk."""
        number = next(self.numbers)
        fs.SEAM.arm(fail_at=f"{point}+:EIO")
        try:
            writer = self.store.begin()
            workload.fill(writer, ids, number)
            self.store.commit([writer])
        except (ReadOnly, OSError):
            pass
        fs.SEAM.arm()
        BURIED.append(self.store)
        self.store._committer.release()  # the kernel does this for a dead process
        self.store = Store.open(self.path, write=True)
        after = self.documents | dict.fromkeys(ids, number)
        found = workload.read(self.store.snapshot())[1]
        assert found in (self.documents, after)
        self.documents = found

    @rule(point=st.integers(1, 60), ids=IDS)
    def a_full_disk(self, point, ids):
        number = next(self.numbers)
        fs.SEAM.arm(fail_at=f"{point}:ENOSPC")
        try:
            writer = self.store.begin()
            workload.fill(writer, ids, number)
            self.commit([writer])
            self.documents |= dict.fromkeys(ids, number)
        except DiskFull:
            assert self.store.snapshot().generation == self.generation
        except ReadOnly:
            fs.SEAM.arm()
            self.store.close()
            self.store = Store.open(self.path, write=True)
            after = self.documents | dict.fromkeys(ids, number)
            found = workload.read(self.store.snapshot())[1]
            assert found in (self.documents, after)
            self.documents = found
        finally:
            fs.SEAM.arm()

    @rule()
    def save_and_restore(self):
        copy, other = self.folder / "copy.tar", self.folder / "other"
        self.store.save_to(copy)
        with Store.restore(copy, other) as restored:
            assert workload.read(restored.snapshot())[1] == self.documents
            assert restored.snapshot().digest == self.store.snapshot().digest
        copy.unlink()
        shutil.rmtree(other)

    @rule(target=snapshots)
    def hold_a_snapshot(self):
        return self.store.snapshot(), dict(self.documents)

    @rule(held=consumes(snapshots))
    def look_at_a_held_snapshot(self, held):
        snapshot, documents = held
        assert workload.read(snapshot)[1] == documents

    @rule()
    def verify_it(self):
        assert verify(self.path).problems == ()

    @rule()
    def look_at_the_catalogue(self):
        workload.check_catalogue(self.store)

    @invariant()
    def the_writer_a_reader_and_a_newcomer_agree(self):
        if not hasattr(self, "documents"):
            return
        self.generation = self.store.snapshot().generation
        assert workload.read(self.store.snapshot())[1] == self.documents
        assert workload.read(self.reader.refresh())[1] == self.documents
        with Store.open(self.path) as newcomer:
            assert workload.read(newcomer.snapshot())[1] == self.documents
            assert newcomer.snapshot().manifest == self.store.snapshot().manifest
        for name in "abcdefg":
            assert (self.store.snapshot().find(name) is None) == (name not in self.documents)

    def teardown(self):
        fs.SEAM.arm()
        if hasattr(self, "store"):
            self.store.close()
            self.reader.close()
        shutil.rmtree(self.folder)


def run(examples, steps):
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_store_holds_what_a_dict_would_hold():
    run(examples=8, steps=25)
