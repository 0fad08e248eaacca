"""An index of every released format opens, is searched, written to and compacted, for ever.

The files were written by ``make`` below. They are never written again: a new format gets a new
file beside them.
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from colreduce.store import Store, verify
from tests.reliability import workload

GOLDEN = Path(__file__).parent / "golden"
STEPS = workload.steps(3, 11)
# What the workload of these steps held when the file was made, written down rather than computed.
DOCUMENTS = {
    "format-1.tar": {
        "doc-00": 9,
        "doc-03": 5,
        "doc-04": 9,
        "doc-05": 11,
        "doc-06": 1,
        "doc-08": 11,
        "doc-09": 2,
        "doc-11": 1,
    },
}
DOCUMENTS["format-2.tar"] = DOCUMENTS["format-1.tar"]  # the same steps
DIGESTS = {
    "format-1.tar": "72b1b907d19f28b8f94307b4574b8e61d8e04859840def96827f28863845d16b",
    "format-2.tar": "07247c08c6edfdbee070037192a079cee6d9aeaad9b8dbd039194fa9628e2a4a",
}


@pytest.fixture(params=sorted(DOCUMENTS))
def golden(request, tmp_path):
    """Unpack with tarfile, so that restoring is not what is tested."""
    with tarfile.open(GOLDEN / request.param) as tar:
        # Python before 3.11.4 knows no filters; these files are our own.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(tmp_path / "index", **safely)
    return tmp_path / "index", request.param


def files(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_it_opens_and_shows_what_it_did(golden):
    path, name = golden
    before = files(path)
    with Store.open(path) as store:
        assert workload.read(store.snapshot())[1] == DOCUMENTS[name]
        assert store.snapshot().digest == DIGESTS[name]
        assert store.snapshot().models["shared"]["weights"].dtype == np.float32
        assert store.config == {"made": "for the golden test"}
    assert verify(path).sound
    assert files(path) == before


def test_it_can_be_written_to_and_leaves_its_old_segments_alone(golden):
    path, name = golden
    before = {p: data for p, data in files(path).items() if p.parent.parent.name == "segments"}
    with Store.open(path, write=True) as store:
        with store.begin() as writer:
            workload.fill(writer, ["doc-00", "new"], 99)
            store.commit([writer])
        assert before.items() <= files(path).items()
        store.compact(purge=True, rewrite=workload.rewrite)
    with Store.open(path) as store:
        assert workload.read(store.snapshot())[1] == DOCUMENTS[name] | {"doc-00": 99, "new": 99}


def test_every_golden_file_is_tested():
    assert sorted(p.name for p in GOLDEN.iterdir()) == sorted(DOCUMENTS)
    assert sum(p.stat().st_size for p in GOLDEN.iterdir()) < 200_000


def make(path):
    """Make the file of the present format; only for a format that was never released."""
    store = Store.create(path / "index", {"made": "for the golden test"})
    for step in STEPS:
        store = workload.apply(store, step)
    store.save_to(path / "format.tar")
    return workload.read(store.snapshot())[1], store.snapshot().digest
