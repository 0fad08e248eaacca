"""FAISS is found or its absence is explained; its bytes go out and come back whole."""

from __future__ import annotations

import io
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from colreduce.candidates.vectors import VECTOR_STORES, gpu, kinds, library
from colreduce.errors import MissingDependency


def test_a_missing_faiss_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependency, match=r"pip install 'colreduce\[cpu\]'"):
        library.load_faiss()


def test_the_empty_folder_that_a_removal_leaves_is_not_taken_for_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", types.ModuleType("faiss"))
    with pytest.raises(MissingDependency, match="half removed"):
        library.load_faiss()


def test_a_faiss_that_misses_the_libraries_of_cuda_is_named_with_its_own_words(
    monkeypatch, tmp_path
):
    package = tmp_path / "faiss"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('nvidia-cublas-cu12 is missing')")
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingDependency, match=r"cannot be loaded \(nvidia-cublas-cu12"):
        library.load_faiss()
    assert gpu.gpus() == 0


def test_a_gpu_that_faiss_was_not_compiled_for_is_left_alone(monkeypatch, caplog):
    monkeypatch.setattr(gpu, "TRIAL", "import os; os.write(2, b'no kernel image'); os.abort()")
    assert not gpu.works.__wrapped__()
    assert "stays on the CPU: no kernel image" in caplog.text
    monkeypatch.setattr(gpu, "TRIAL", "import time; time.sleep(60)")
    monkeypatch.setattr(gpu, "TRIAL_SECONDS", 1)
    assert not gpu.works.__wrapped__()
    assert "no answer in 1 s" in caplog.text
    monkeypatch.setattr(gpu, "TRIAL", "")
    monkeypatch.setattr(gpu, "TRIAL_SECONDS", 60)
    assert gpu.works.__wrapped__()


def test_small_segments_and_flat_stores_need_no_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    vectors = np.eye(4, dtype=np.float32)
    for store in VECTOR_STORES.values():
        state = store.fit(vectors, seed=0)
        builder = store.builder(state)
        rows = builder.add(vectors)
        assert {**rows, **builder.finish()}.keys() <= {"vectors", "scales"}


def test_an_index_is_read_from_the_bytes_that_were_written():
    faiss = library.load_faiss()
    vectors = np.eye(8, dtype=np.float32)
    index = faiss.IndexFlatIP(8)
    index.add(vectors)
    stream = io.BytesIO()
    library.written(index)(stream)
    content = np.frombuffer(stream.getvalue(), np.uint8)
    again = library.read(content)
    assert again.search(vectors, 1)[1][:, 0].tolist() == list(range(8))
    assert library.emptied(content).ntotal == 0


@pytest.mark.parametrize(
    ("width", "most", "size"), [(128, 8, 8), (384, 4, 4), (33, 8, 3), (7, 4, 1), (4, 8, 4)]
)
def test_numbers_are_coded_in_groups_that_divide_the_width(width, most, size):
    assert kinds.group_size(width, most) == size


@pytest.mark.parametrize(
    ("vectors", "lists"), [(1, 4), (4096, 256), (65_536, 1024), (1 << 20, 4096)]
)
def test_lists_grow_with_the_root_of_the_vectors(vectors, lists):
    assert kinds.lists_for(vectors) == lists


def test_no_faiss_and_one_without_a_gpu_have_none(monkeypatch):
    faiss = library.load_faiss()
    if not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        assert gpu.gpus() == 0
        assert gpu.on_gpu(faiss.IndexFlatIP(8)) is None
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert gpu.gpus() == 0


def test_an_index_with_lists_is_trained_without_a_gpu_as_ever():
    vectors = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    index = gpu.train(kinds.IVF.make(8, 500), vectors)
    assert index.is_trained
    assert index.clustering_index is None


@pytest.mark.gpu
def test_an_index_goes_to_the_gpu_and_finds_the_same():
    faiss = library.load_faiss()
    vectors = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32)
    index = gpu.train(kinds.IVF.make(64, 5000), vectors)
    index.add(vectors)
    on_gpu = gpu.on_gpu(index)
    if on_gpu is None:
        pytest.skip("this FAISS has no GPU")
    given = faiss.SearchParametersIVF(nprobe=16)
    here, there = (i.search(vectors[:20], 5, params=given)[1] for i in (index, on_gpu))
    assert (here == there).mean() > 0.95


@pytest.mark.gpu
def test_many_threads_search_many_indexes_on_the_gpu_at_once():
    faiss = library.load_faiss()
    vectors = np.random.default_rng(0).standard_normal((4, 5000, 64)).astype(np.float32)
    indexes = []
    for part in vectors:
        indexes.append(gpu.train(kinds.IVF.make(64, 5000), part))
        indexes[-1].add(part)
    moved = [gpu.on_gpu(index) for index in indexes]
    if None in moved:
        pytest.skip("this FAISS has no GPU")
    given = faiss.SearchParametersIVF(nprobe=64)

    def ask(turn):
        which = turn % 4
        return moved[which].search(vectors[which][:20], 5, params=given)[1]

    alone = [ask(turn) for turn in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for turn, rows in enumerate(pool.map(ask, range(400))):
            np.testing.assert_array_equal(rows, alone[turn % 4])
