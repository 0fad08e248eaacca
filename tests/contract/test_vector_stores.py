"""What holds for every way of keeping one vector per document, once a segment is large."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from colreduce.candidates.base import Parts
from colreduce.candidates.vectors import VECTOR_STORES
from colreduce.candidates.vectors.base import VectorStore
from colreduce.candidates.vectors.indexed import INDEX, Indexed
from colreduce.errors import DiskFull
from tests.reference.first_stages import largest, opened

DIM, COUNT, SMALL = 24, 900, 300


def store_named(name: str) -> VectorStore:
    """Return the store with segments of a few hundred vectors counted as large."""
    store = VECTOR_STORES[name]
    return (
        dataclasses.replace(store, small=SMALL, small_floats=0)
        if isinstance(store, Indexed)
        else store
    )


STORES = pytest.mark.parametrize("name", VECTOR_STORES)
INDEXED = [name for name, store in VECTOR_STORES.items() if isinstance(store, Indexed)]


def clustered(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Return vectors in groups of three that are close to one another."""
    rng = np.random.default_rng(seed)
    topics = np.repeat(rng.standard_normal((count // 3, DIM)), 3, axis=0)
    vectors = topics + 0.1 * rng.standard_normal((count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def built(store: VectorStore, state, vectors: np.ndarray, step: int = COUNT) -> Parts:
    builder = store.builder(state)
    growing: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(vectors), step):
        for name, rows in builder.add(vectors[start : start + step]).items():
            growing.setdefault(name, []).append(rows)
    streamed = {name: np.concatenate(rows) for name, rows in growing.items()}
    return opened({**streamed, **builder.finish()}, len(vectors))


def shared_state(store: VectorStore, monkeypatch) -> dict:
    monkeypatch.setattr("colreduce.candidates.vectors.indexed.SMALL", SMALL)
    return dict(store.fit(clustered(600, seed=9), seed=0))


def searcher(store: VectorStore, vectors: np.ndarray, effort: int | None = None):
    return store.open(built(store, {}, vectors), {}, effort=effort)


@STORES
def test_a_vector_finds_itself_and_its_neighbours(name):
    vectors = clustered()
    asked = searcher(store_named(name), vectors)
    rows = np.arange(0, COUNT, 30)
    found = asked.search(vectors[rows], 10, None)
    share = np.mean(
        [
            len({r, r + 1, r + 2} & set(f.rows.tolist())) / 3
            for r, f in zip(rows, found, strict=True)
        ]
    )
    assert share >= (0.6 if name in ("rabitq", "rabitq_fast", "pq", "pq4", "ivfpq") else 0.95)
    if name in INDEXED:
        assert INDEX in built(store_named(name), {}, vectors).files


@STORES
def test_results_come_best_first_without_blanks_or_repeats(name):
    vectors = clustered()
    vectors[700:] = vectors[:200]
    [found] = searcher(store_named(name), vectors).search(vectors[:1], 50, None)
    assert found.rows.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert len(set(found.rows.tolist())) == 50
    assert ((found.rows >= 0) & (found.rows < COUNT)).all()
    assert np.lexsort((found.rows, -found.scores)).tolist() == list(range(50))


@STORES
def test_equal_vectors_come_in_the_order_of_their_rows(name):
    vectors = clustered()
    vectors[[17, 400, 401, 888]] = vectors[5]
    asked = searcher(store_named(name), vectors)
    # Codes can make more vectors equal than were, so look at all that share the first score.
    [found] = asked.search(vectors[5:6], 30, None)
    level = found.rows[found.scores == found.scores[0]].tolist()
    assert {5, 17, 400, 401, 888} <= set(level)
    assert level == sorted(level)
    for k in range(1, len(level)):
        [found] = asked.search(vectors[5:6], k, None)
        assert found.rows.tolist() == level[:k]


@STORES
@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_filters_are_kept_and_enough_is_found(name, share):
    vectors = clustered()
    allowed = np.random.default_rng(3).random(COUNT) < share
    allowed[30] = True
    count = int(allowed.sum())
    asked = searcher(store_named(name), vectors)
    for k in (1, 7, 200, 5000):
        [found] = asked.search(vectors[30:31], k, allowed)
        assert allowed[found.rows].all()
        assert len(found.rows) == min(k, count)
        assert len(set(found.rows.tolist())) == len(found.rows)
    [found] = asked.search(vectors[30:31], 3, allowed)
    assert 30 in found.rows


@STORES
def test_asking_for_everything_returns_every_row(name):
    vectors = clustered()
    [found] = searcher(store_named(name), vectors).search(vectors[:1], 10_000, None)
    assert sorted(found.rows.tolist()) == list(range(COUNT))


@STORES
def test_scores_are_close_to_the_products(name):
    vectors = clustered()
    asked = searcher(store_named(name), vectors)
    [found] = asked.search(vectors[9:10], 20, None)
    error = np.abs(found.scores - vectors[found.rows] @ vectors[9]).max()
    assert error < {"flat": 1e-6, "fp16": 1e-3, "ivf": 2e-3, "hnsw": 2e-3, "sq8": 0.01}.get(
        name, 0.35
    )


@STORES
def test_small_segments_are_searched_exactly(name):
    vectors = clustered(90)
    allowed = np.arange(90) % 2 == 0
    asked = searcher(store_named(name), vectors)
    [found] = asked.search(vectors[4:5], 9, allowed)
    expected, _ = largest(vectors, vectors[4], 9, allowed)
    assert found.rows.tolist() == expected


@STORES
def test_how_vectors_come_changes_nothing(name, monkeypatch):
    store, vectors = store_named(name), clustered()
    state = shared_state(store, monkeypatch)
    whole = store.open(built(store, state, vectors), state, effort=None)
    pieces = store.open(built(store, state, vectors, step=37), state, effort=None)
    for one, other in zip(*(s.search(vectors[:5], 9, None) for s in (whole, pieces)), strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@STORES
@pytest.mark.parametrize("trained", ["once", "in each segment"])
def test_merged_segments_answer_like_one_segment(name, trained, monkeypatch):
    store, vectors = store_named(name), clustered()
    state = shared_state(store, monkeypatch) if trained == "once" else {}
    cuts = [(0, 500), (500, 860), (860, 900)]  # two large segments and a small one
    segments = [built(store, state, vectors[a:b]) for a, b in cuts]
    kept = [np.flatnonzero(np.arange(b - a) % 5 != 1) for a, b in cuts]
    merged = opened(
        dict(store.merge(list(zip(segments, kept, strict=True)), state)), sum(map(len, kept))
    )
    rows = np.concatenate([kept[i] + cuts[i][0] for i in range(3)])
    asked = store.open(merged, state, effort=None)
    anew = store.open(built(store, state, vectors[rows]), state, effort=None)
    overlap = []
    for query in vectors[::90]:
        [one], [other] = (s.search(query[None], 6, None) for s in (asked, anew))
        overlap.append(len(set(one.rows.tolist()) & set(other.rows.tolist())) / 6)
        if trained == "once" and name != "hnsw":
            np.testing.assert_allclose(one.scores, other.scores, atol=2e-3)
    assert np.mean(overlap) >= (0.95 if trained == "once" else 0.4)


@STORES
def test_merging_down_to_a_few_rows_leaves_a_small_segment(name):
    store, vectors = store_named(name), clustered()
    parts = built(store, {}, vectors)
    merged = opened(dict(store.merge([(parts, np.array([3, 4, 100]))], {})), 3)
    assert merged.files == {}
    [found] = store.open(merged, {}, effort=None).search(vectors[100:101], 1, None)
    assert found.rows.tolist() == [2]


@pytest.mark.parametrize("name", INDEXED)
def test_segments_share_what_was_trained_once(name, monkeypatch):
    store = store_named(name)
    state = shared_state(store, monkeypatch)
    assert set(state) == {"trained"}
    assert store.fit(clustered(150), seed=0) == {}


@pytest.mark.parametrize("name", INDEXED)
def test_a_disk_that_fails_while_the_index_is_written_is_heard(name):
    builder = store_named(name).builder({})
    builder.add(clustered())
    write = builder.finish()[INDEX]

    class FullDisk:
        def write(self, data):
            raise DiskFull("no room")

    with pytest.raises(DiskFull, match="no room"):
        write(FullDisk())


@pytest.mark.parametrize("name", ["ivf", "ivfpq"])
def test_looking_at_more_lists_finds_more(name):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((COUNT, DIM)).astype(np.float32)
    found = {}
    for effort in (1, 1000):
        asked = searcher(store_named(name), vectors, effort=effort)
        answers = asked.search(vectors[:40], 10, None)
        exact = [set(largest(vectors, q, 10)[0]) for q in vectors[:40]]
        found[effort] = np.mean(
            [len(e & set(a.rows.tolist())) for e, a in zip(exact, answers, strict=True)]
        )
    assert found[1000] > found[1] + 1


@STORES
@pytest.mark.parametrize("share", [None, 0.01, 0.7])
@pytest.mark.parametrize("queries", [1, 3])
def test_a_search_ends_as_soon_as_nobody_waits_for_it(name, share, queries):
    vectors = clustered()
    asked = searcher(store_named(name), vectors)
    allowed = None if share is None else np.random.default_rng(1).random(COUNT) < share

    class NobodyWaits(Exception): ...

    def leave() -> None:
        raise NobodyWaits

    with pytest.raises(NobodyWaits):
        asked.search(vectors[:queries], 5, allowed, leave)
    assert len(asked.search(vectors[:queries], 5, allowed)) == queries
