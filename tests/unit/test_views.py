"""A view that grew from the one before answers as one that was made at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce import Index
from colreduce.candidates.vectors import beside
from colreduce.candidates.vectors.beside import JoinedSearcher, SideBySide
from colreduce.candidates.vectors.flat import FlatSearcher, stored_rows
from colreduce.candidates.vectors.room import Room
from colreduce.filters import parse
from colreduce.index.search import Asked, View

DIM = 16
RECIPES = {
    "no first stage": "exact",
    "plain vectors": "int8 | mean | maxsim(candidates=7)",
    "two stages": "fp16 | mean(store=sq8) | bm25 | rrf | maxsim(candidates=5)",
    "lists": "fp16 | tokens(centroids=8, probes=2, reach=4) | maxsim(candidates=6)",
    "the first stage's order": "fp16 | mean | none",
}


def vectors(draw: np.random.Generator, count: int) -> list[torch.Tensor]:
    """Make documents some of which are equal, so that scores are, too."""
    kinds = np.random.default_rng(1).standard_normal((12, 4, DIM)).astype(np.float32)
    noise = draw.standard_normal((count, 4, DIM)).astype(np.float32)
    loud = draw.random(count) < 0.5
    made = kinds[draw.integers(12, size=count)] + 0.3 * noise * loud[:, None, None]
    return list(torch.nn.functional.normalize(torch.from_numpy(made), dim=2))


def put(index: Index, draw: np.random.Generator, count: int) -> None:
    numbers = draw.choice(60, size=count, replace=False).tolist()
    index.add(
        [f"doc-{number}" for number in numbers],
        [f"word{n % 5} word{n % 3} every" for n in numbers],
        embeddings=vectors(draw, count),
        metadata=[{"parity": n % 2} for n in numbers],
    )


def change(index: Index, draw: np.random.Generator) -> None:
    """Put one document or some, delete some, or merge some segments."""
    happens = draw.random()
    if happens < 0.6:
        put(index, draw, int(draw.choice([1, 1, 1, 2, 9])))
    elif happens < 0.9:
        numbers = draw.choice(60, size=3, replace=False).tolist()
        index.delete([f"doc-{number}" for number in numbers])
    else:
        segments = [one.name for one in index.view.snapshot.segments]
        some = draw.choice(len(segments), size=min(3, len(segments)), replace=False)
        index.merge(segments=[segments[number] for number in some])


def told(index: Index, view: View) -> list[list[tuple[str, float, int]]]:
    """Return what a view answers to some queries, asked in several ways."""
    draw = np.random.default_rng(3)
    odd = parse("parity = 1")
    answers = []
    for number, query in enumerate(vectors(draw, 3)):
        asked = index.pipeline.asked(query, f"word{number} every")
        for how in ((6, 7), (6, 30), (40, 40), (6, 7, True), (6, 7, False, odd), (6, 7, True, odd)):
            hits = view.search(Asked(asked, *how))
            answers.append([(hit.id, hit.score, hit.metadata["parity"]) for hit in hits])
    return answers


@pytest.mark.parametrize("name", RECIPES)
def test_a_view_that_grew_answers_as_one_made_at_once(tmp_path, name, monkeypatch):
    draw = np.random.default_rng(7)
    with Index.create(tmp_path / "idx", recipe=RECIPES[name], dim=DIM) as index:
        index.upkeep.close()  # nothing is merged behind our back
        put(index, draw, 40)
        older = []
        for step in range(50):
            # Segments of nine documents stay where they are mapped, smaller ones are copied.
            monkeypatch.setattr(beside, "JOINED_FLOATS", 8 * DIM)
            change(index, draw)
            view = index.view
            grown = told(index, view)
            assert grown == told(index, View(view.snapshot, index.pipeline)), step
            monkeypatch.setattr(beside, "JOINED_FLOATS", 0)
            assert grown == told(index, View(view.snapshot, index.pipeline)), step
            older.append((view, grown))
        assert max(len(view.snapshot.segments) for view, _ in older) > 5
        for view, answers in older[::5]:
            assert told(index, view) == answers


def test_of_equal_scores_the_first_ids_are_kept_whatever_order_they_came_in(tmp_path):
    [one] = vectors(np.random.default_rng(0), 1)
    with Index.create(tmp_path / "idx", recipe="exact", dim=DIM) as index:
        for name in ("d", "b", "e", "a", "c"):
            index.add([name], embeddings=[one])
        index.delete(["b"])
        assert [hit.id for hit in index.search(one, 3)] == ["a", "c", "d"]
        assert [hit.id for hit in index.search(one, 3, exact=True)] == ["a", "c", "d"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_joined_segment_takes_over_the_rows_that_were_there(dtype):
    draw = np.random.default_rng(5)
    parts = []
    for count in (3, 1, 70):
        rows = stored_rows(draw.standard_normal((count, 8)).astype(np.float32), dtype)
        parts.append(FlatSearcher(rows["vectors"], rows.get("scales")))
    two = JoinedSearcher(parts[:2])
    before = two.vectors(np.arange(4))
    three = JoinedSearcher(parts, two)
    other = JoinedSearcher([*parts[:2], parts[0]], two)
    assert np.array_equal(two.vectors(np.arange(4)), before)
    alone = np.concatenate([part.vectors(np.arange(part.rows)) for part in parts])
    assert np.array_equal(three.vectors(np.arange(74)), alone)
    assert np.array_equal(other.vectors(np.arange(7)), np.concatenate([before, before[:3]]))
    query = draw.standard_normal((1, 8)).astype(np.float32)
    [found] = three.search(query, 5, None)
    [whole] = FlatSearcher(three.vectors(np.arange(74))).search(query, 5, None)
    assert found.rows.tolist() == whole.rows.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_segments_side_by_side_answer_as_one_and_are_copied_once(dtype, monkeypatch):
    monkeypatch.setattr(beside, "JOINED_FLOATS", 8 * 8)
    draw = np.random.default_rng(6)
    parts = []
    for count in (70, 3, 1, 2, 40, 5):  # only neighbours of at most eight rows are copied
        rows = stored_rows(draw.standard_normal((count, 8)).astype(np.float32), dtype)
        parts.append(FlatSearcher(rows["vectors"], rows.get("scales")))
    alone = np.concatenate([part.vectors(np.arange(part.rows)) for part in parts])
    one, whole = SideBySide(parts), FlatSearcher(alone)
    some = draw.permutation(len(alone))[:30]
    assert np.array_equal(one.vectors(some), alone[some])
    queries = draw.standard_normal((2, 8)).astype(np.float32)
    for allowed in (None, draw.random(len(alone)) < 0.5, np.arange(len(alone)) < 72):
        together = one.search(queries, 9, allowed)
        for found, wanted in zip(together, whole.search(queries, 9, allowed), strict=True):
            assert found.rows.tolist() == wanted.rows.tolist()
    # Also when what stands in front of them has gone, as after a compaction.
    later = SideBySide([*parts[1:], parts[1]], [one])
    copied = [part for part in one._parts if isinstance(part, JoinedSearcher)]
    assert len(copied) == 1
    assert copied[0] in later._parts


def test_room_is_shared_by_those_who_go_on_where_it_ends_and_by_nobody_else():
    room = Room(np.arange(3))
    assert room.extended(3, np.array([7])) is room
    assert room.rows(4).tolist() == [0, 1, 2, 7]
    forked = room.extended(3, np.array([8]))
    assert forked is not room
    assert (forked.rows(4).tolist(), room.rows(4).tolist()) == ([0, 1, 2, 8], [0, 1, 2, 7])
    full = room.extended(4, np.arange(100))
    assert full is not room
    assert full.rows(104).tolist() == [0, 1, 2, 7, *range(100)]
