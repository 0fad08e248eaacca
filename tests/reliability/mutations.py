"""Plants defects in the store, one at a time; the instruments must notice every one of them.

The numbers are those of the project's list. M15 to M17 lie in the service, M20 in the indexer.
"""

import contextlib
import tempfile
from pathlib import Path

import torch

from colreduce.errors import BadInput, ColreduceError
from colreduce.index import Index, WriteQueue, limits
from colreduce.ragged import Ragged
from colreduce.store import (
    Store,
    catalogue,
    committer,
    compact,
    fs,
    layout,
    manifest,
    recovery,
    segment,
)
from colreduce.store import store as store_module
from tests.reliability import crash, damage, powerloss, races, workload


@contextlib.contextmanager
def replaced(owner, name, value):
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


def no_file_fsync():
    return replaced(fs, "fsync", lambda fd, path: None)


def no_folder_fsync():
    return replaced(fs, "fsync_dir", lambda path: None)


@contextlib.contextmanager
def manifest_before_segment():
    """The folders get their names only after the manifest was published."""
    place, publish = committer.place, manifest.publish
    hidden = []

    def placed_late(root, before, change):
        placed = place(root, before, change)
        for folder in change.placed:
            if folder.exists():
                fs.rename(folder, folder.with_name(".tmp-hidden-" + folder.name))
                hidden.append(folder)
        return placed

    def published_early(root, found):
        sha256 = publish(root, found)
        for folder in hidden:
            fs.rename(folder.with_name(".tmp-hidden-" + folder.name), folder)
            fs.fsync_dir(folder.parent)
        hidden.clear()
        return sha256

    with replaced(committer, "place", placed_late), replaced(manifest, "publish", published_early):
        yield


def manifest_in_place():
    def publish(root, found):
        data, sha256 = found.sealed()
        fs.write_once(root / layout.manifest_name(found.generation), data)
        fs.fsync_dir(root)
        return sha256

    return replaced(manifest, "publish", publish)


def delete_before_commit():
    place = committer.place

    def placed(root, before, change):
        done = place(root, before, change)
        for name in change.removed:
            fs.rmtree(root / layout.SEGMENTS / name)
        return done

    return replaced(committer, "place", placed)


@contextlib.contextmanager
def checksum_not_verified():
    checked = segment.checked_bytes

    def unchecked(path, seal, verify):
        return checked(path, seal, "sizes")

    with replaced(segment, "checked_bytes", unchecked):
        yield


def fall_back_to_an_older_manifest():
    def newest(root):
        for generation in reversed(manifest.generations(root)):
            try:
                return manifest.load(root, generation)
            except ColreduceError:
                continue
        return manifest.load(root, 0)

    return replaced(manifest, "newest", newest)


def delete_newer_segments():
    def delete(root, generation):
        for entry in fs.list_entries(root / layout.SEGMENTS):
            if (layout.segment_generation(entry.name) or 0) > generation:
                fs.rmtree(Path(entry.path))

    return replaced(recovery, "set_aside_newer", delete)


def drop_every_tombstone():
    return replaced(compact, "_needed_tombstones", lambda snapshot, inputs: [])


def no_lock():
    return replaced(fs.fcntl, "flock", lambda fd, how: None)


@contextlib.contextmanager
def catalogue_before_manifest():
    place = committer.place

    def placed(root, before, change):
        done = place(root, before, change)
        _, sha256 = done.manifest.sealed()
        early = catalogue.Catalogue(root)
        early.rebuild(store_module.Snapshot(done.manifest, sha256, done.segments, done.models))
        early.close()
        return done

    with replaced(committer, "place", placed):
        yield


def no_retry():
    return replaced(store_module, "_TRIES", 0)


def failed_open_keeps_the_lock():
    kept = []

    def keep(self):
        kept.append(self._lock)

    return replaced(committer.Committer, "release", keep)


def renumber_rows():
    """Compaction takes as many rows as are live, but the first ones."""

    def blocks(part, name, rows):
        array, per = part.arrays[name], part.data.per[name]
        size = len(rows) if per == "document" else int(part.arrays[per][rows].sum())
        yield array[:size]

    return replaced(compact, "_blocks", blocks)


def lock_is_given_back(folder):
    """A failed open must give the lock back."""
    figures = crash.Figures()
    path = folder / "index"
    damage.make(path)
    victim = next(path.rglob("docs.bin"))
    good = victim.read_bytes()
    victim.unlink()
    with contextlib.suppress(ColreduceError):
        Store.open(path, write=True)
    victim.write_bytes(good)
    try:
        Store.open(path, write=True).close()
    except ColreduceError as problem:
        figures.fail("the open after a failed one", problem)
    return figures


@contextlib.contextmanager
def finite_check_removed():
    def everything(vectors):
        return torch.ones_like(vectors, dtype=torch.bool)

    with (
        replaced(torch, "isfinite", everything),
        replaced(limits, "_check_norms", lambda vectors, who: None),
    ):
        yield


def not_finite(folder):
    """Numbers that are not finite are refused on every road into an index, and change nothing."""
    figures = crash.Figures()
    with (
        Index.create(folder / "index", recipe="fp32 | mean", dim=4) as index,
        WriteQueue(index) as queue,
    ):
        index.add(["good"], embeddings=[torch.ones(2, 4)])
        before = index.generation
        for number, wrong in enumerate((float("nan"), float("inf"), float("-inf"))):
            vectors = torch.ones(3, 4)
            vectors[1, 2] = wrong
            one = [f"bad-{number}"]
            roads = {
                "a list": lambda vectors=vectors, one=one: index.add(one, embeddings=[vectors]),
                "a ragged batch": lambda vectors=vectors, one=one: index.add(
                    one, embeddings=Ragged(vectors, torch.tensor([3]))
                ),
                "the queue": lambda vectors=vectors, one=one: queue.submit_upsert(
                    one, embeddings=[vectors]
                ).result(10),
            }
            for road, add in roads.items():
                figures.runs += 1
                with contextlib.suppress(BadInput):
                    add()
                    figures.failures.append(f"{wrong} came in through {road}")
        if index.generation != before or [hit.id for hit in index.search(torch.ones(1, 4))] != [
            "good"
        ]:
            figures.failures.append("a search shows what was refused")
    return figures


def _power(folder):
    return powerloss.campaign(folder, 1, 14, stop_at=1)


def _every_operation(folder):
    return crash.after_every_operation(folder, 1, 14, stride=5, stop_at=1)


MUTATIONS = {
    "M1 no file fsync": (no_file_fsync, _power),
    "M2 no folder fsync": (no_folder_fsync, _power),
    "M3 manifest before segment": (manifest_before_segment, _every_operation),
    "M4 acknowledged early": (
        contextlib.nullcontext,
        lambda folder: crash.at_random_times(folder, 1, 12, early=True),
    ),
    "M5 manifest written in place": (manifest_in_place, _power),
    "M6 old segments deleted before the commit": (delete_before_commit, _every_operation),
    "M7 checksum not verified": (
        checksum_not_verified,
        lambda folder: damage.campaign(folder, 1, stride=41),
    ),
    "M8 fall back to an older manifest": (
        fall_back_to_an_older_manifest,
        lambda folder: damage.campaign(folder, 1, stride=41),
    ),
    "M9 newer segments deleted at open": (delete_newer_segments, damage.lost_manifest),
    "M10 tombstones dropped": (drop_every_tombstone, _every_operation),
    "M11 no lock": (no_lock, lambda folder: races.two_writers(folder, 5)),
    "M12 catalogue before manifest": (catalogue_before_manifest, _every_operation),
    "M13 finite check removed": (finite_check_removed, not_finite),
    "M14 no second look by readers": (no_retry, lambda folder: races.readers(folder, 3.0)),
    "M18 a failed open keeps the lock": (failed_open_keeps_the_lock, lock_is_given_back),
    "M19 rows renumbered": (renumber_rows, _every_operation),
}


def caught(name):
    """Plant one defect and say whether the instrument that should see it did."""
    plant, instrument = MUTATIONS[name]
    with tempfile.TemporaryDirectory(dir=workload.quick_disk()) as folder, plant():
        try:
            return bool(instrument(Path(folder)).failures)
        except (ColreduceError, workload.Mixed, AssertionError, OSError, KeyError):
            return True
