"""Native code for searches against the plain way, and searches with and without it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from colreduce import Index
from colreduce.candidates import base
from colreduce.candidates.vectors import flat
from colreduce.candidates.vectors.flat import FlatSearcher, stored_rows
from colreduce.errors import ShapeMismatch
from colreduce.index import stored
from colreduce.index.search import Asked
from colreduce.index.warm import warm
from colreduce.maxsim import rows as module
from colreduce.native import Rooms
from colreduce.ragged import Ragged
from tests.reference.maxsim import maxsim

pytest.importorskip("numba", reason="numba is not installed; pip install 'colreduce[fast]'")

from colreduce.maxsim.rows import RowScorer

LENGTHS = np.array([3, 40, 1, 90, 26, 1, 7])
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])


def drawn(rows: int, width: int, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=draw), dim=1)


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (base, flat, stored):
        monkeypatch.setattr(one, "has_numba", lambda: False)


def test_every_number_in_half_precision_is_widened_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = torch.from_numpy(every[np.isfinite(every)].copy())
    scorer = RowScorer(finite[:, None], None, np.arange(len(finite) + 1))
    scores = scorer.scores(torch.ones(1, 1), np.arange(len(finite)))
    np.testing.assert_array_equal(scores, finite.float().numpy())
    assert (finite.abs() < 2.0**-14).sum() > 1000  # those without a leading one among them


@pytest.mark.parametrize("rows", [[0], [5, 2], [6, 3, 3, 0], [0, 1, 2, 3, 4, 5, 6], []])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
@pytest.mark.parametrize("block", [1, 24 * 50, 1 << 19])
@pytest.mark.parametrize("queries", [1, 6, 31, 33, 70])
def test_documents_are_scored_as_the_reference_scores_them(
    dtype, rows, block, queries, monkeypatch
):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    monkeypatch.setattr(module, "ROOM_NUMBERS", block // 2)
    monkeypatch.setattr(module, "MANY", 3)  # so that some blocks are scored side by side
    tokens, query = drawn(int(LENGTHS.sum()), 24), drawn(queries, 24, seed=2)
    scales = None
    if dtype == torch.int8:
        scales = (tokens.abs().amax(1) / 127).half()
        kept = (tokens / scales.float()[:, None]).round().to(torch.int8)
        read = kept.float() * scales.float()[:, None]
    else:
        kept = tokens.to(dtype)
        read = kept.float()
    found = RowScorer(kept, scales, OFFSETS).scores(query, np.array(rows, dtype=np.int64))
    documents = np.split(read.numpy(), OFFSETS[1:-1])
    wanted = [maxsim(query.numpy(), documents[row]) for row in rows]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_a_score_is_asked_for_no_longer_than_somebody_waits(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 1)
    scorer = RowScorer(drawn(int(LENGTHS.sum()), 24), None, OFFSETS)
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) >= 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        scorer.scores(drawn(2, 24), np.arange(200) % 7, check)
    assert 3 <= len(asked) <= 3 + torch.get_num_threads()


def test_what_does_not_fit_is_refused_before_any_memory_is_touched():
    tokens = drawn(int(LENGTHS.sum()), 24)
    scorer = RowScorer(tokens, None, OFFSETS)
    for width in (3, 23, 25):
        with pytest.raises(ShapeMismatch, match=f"{width} wide"):
            scorer.scores(drawn(2, width), np.array([0]))
        with pytest.raises(ShapeMismatch, match=f"{width} wide"):
            FlatSearcher(tokens.numpy()).search(drawn(1, width).numpy(), 1, None)
    with pytest.raises(ShapeMismatch, match="are counted"):
        RowScorer(tokens[:-1], None, OFFSETS)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_flat_rows_are_found_alike_with_and_without_native_code(dtype, monkeypatch):
    rng = np.random.default_rng(5)
    kept = stored_rows(rng.standard_normal((700, 96)).astype(np.float32), dtype)
    kept["vectors"][600:] = kept["vectors"][:100]  # equal rows, so that there are ties
    query = rng.standard_normal((1, 96)).astype(np.float32)
    allowed = rng.random(700) < 0.6
    for passing in (None, allowed):
        searcher = FlatSearcher(kept["vectors"], kept.get("scales"))
        [native] = searcher.search(query, 60, passing)
        with monkeypatch.context() as patched:
            without_numba(patched)
            [plain] = searcher.search(query, 60, passing)
        assert native.rows.tolist() == plain.rows.tolist()
        np.testing.assert_allclose(native.scores, plain.scores, rtol=1e-4, atol=1e-4)


def test_rows_shared_out_to_threads_are_the_same(monkeypatch):
    rng = np.random.default_rng(6)
    searcher = FlatSearcher(rng.standard_normal((500, 64)).astype(np.float16))
    query = rng.standard_normal((1, 64)).astype(np.float32)
    [alone] = searcher.search(query, 20, None)
    monkeypatch.setattr(flat, "WORTH_SHARING", 1)
    [shared] = searcher.search(query, 20, None)
    assert alone.rows.tolist() == shared.rows.tolist()
    assert alone.scores.tolist() == shared.scores.tolist()


def test_the_largest_are_those_that_sorting_finds():
    rng = np.random.default_rng(7)
    for _ in range(500):
        count, k = int(rng.integers(0, 60)), int(rng.integers(0, 70))
        scores = rng.integers(0, 8, count).astype(np.float32)
        rows = rng.permutation(count).astype(np.int64)
        order = np.lexsort((rows, -scores))[:k]
        found = base.best(scores, rows, k)
        assert found.rows.tolist() == rows[order].tolist()
        assert found.scores.tolist() == scores[order].tolist()


@pytest.mark.parametrize(
    "recipe",
    [
        "ward(factor=4) | int8 | mean | maxsim(candidates=20)",
        "fp16 | fde(repetitions=4, bits=3) | maxsim(candidates=20)",
        "ward(factor=4) | fp32 | exhaustive | maxsim(whole=15, kept=int8)",
    ],
)
def test_an_index_answers_alike_with_and_without_native_code(recipe, tmp_path, monkeypatch):
    lengths = torch.randint(2, 30, (80,), generator=torch.Generator().manual_seed(3))
    batch = Ragged(drawn(int(lengths.sum()), 16), lengths)
    documents = list(batch.tokens.split(lengths.tolist()))
    with Index.create(tmp_path / "idx", recipe=recipe, dim=16, device="cpu") as index:
        for start in (0, 50):  # two segments
            some = documents[start : start + 50]
            index.add([f"d{start + n}" for n in range(len(some))], embeddings=some)
        query = drawn(5, 16, seed=8)
        for more in ({}, {"exact": True}, {"candidates": 80}):
            native = index.search(query, 10, **more)
            with monkeypatch.context() as patched:
                without_numba(patched)
                for one in index.view.segments.values():
                    one.__dict__.pop("whole", None)
                    one.stored.__dict__.pop("numbers", None)
                plain = index.search(query, 10, **more)
                for one in index.view.segments.values():
                    assert one.stored.numbers is None
                    one.__dict__.pop("whole", None)
                    one.stored.__dict__.pop("numbers", None)
            assert [hit.id for hit in native] == [hit.id for hit in plain]
            np.testing.assert_allclose(
                [hit.score for hit in native], [hit.score for hit in plain], rtol=0, atol=1e-4
            )
            assert all(one.stored.numbers is not None for one in index.view.segments.values())


def test_one_segment_is_scored_as_several_are(tmp_path):
    documents = list(drawn(90, 16).split(9))
    with Index.create(tmp_path / "idx", recipe="int8 | mean | maxsim", dim=16) as index:
        for start in (0, 4):
            some = documents[start : start + (4 if start == 0 else 6)]
            index.add([f"d{start + n}" for n in range(len(some))], embeddings=some)
        query = drawn(5, 16, seed=8)
        several = index.search(query, 10)
        index.compact()
        assert len(index.view.filled) == 1
        one = index.search(query, 10)
    assert [(hit.id, hit.score) for hit in several] == [(hit.id, hit.score) for hit in one]


def test_room_is_lent_to_one_at_a_time_and_kept_for_the_next():
    rooms = Rooms()
    with rooms.lend(10) as first, rooms.lend(10) as second:
        assert not np.shares_memory(first, second)
        assert len(first) == len(second) == 10
    with rooms.lend(4) as third:
        assert np.shares_memory(third, first) or np.shares_memory(third, second)
    with rooms.lend(Rooms.LARGEST + 1) as large:
        pass
    with rooms.lend(4) as fourth:
        assert not np.shares_memory(fourth, large)


def test_nothing_is_left_to_compile_once_it_is_warm(tmp_path):
    warm()
    from colreduce.native import compiled

    known = {name: len(one.signatures) for name, one in vars(compiled).items() if jitted(one)}
    for codec, first in (("int8", "mean"), ("fp16", "fde(repetitions=2)"), ("fp32", "mean")):
        folder = tmp_path / codec
        with Index.create(folder, recipe=f"{codec} | {first} | maxsim", dim=16) as index:
            index.add([f"d{n}" for n in range(30)], embeddings=list(drawn(300, 16).split(10)))
        with Index.open(folder) as index:
            [asked] = index.ask([drawn(5, 16)], 3)
            assert isinstance(asked, Asked)
            assert len(index.view.search(asked)) == 3
    after = {name: len(one.signatures) for name, one in vars(compiled).items() if jitted(one)}
    assert after == known
    assert known["maxsim"] == known["dots"] == 3


def jitted(one: object) -> bool:
    return hasattr(one, "signatures") and hasattr(one, "py_func")


def test_kernels_are_compiled_where_no_file_can_be_kept():
    code = (
        "from colreduce.index.warm import warm\n"
        "warm()\n"
        "from colreduce.native import kernels\n"
        "print(type(kernels().largest._cache).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"},
    )
    assert done.stdout.strip() == "NullCache", done.stderr
