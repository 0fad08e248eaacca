"""Reductions that know what a page is: its background, its prompt, its grid, its attention."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from colreduce.index import Index
from colreduce.ragged import Ragged
from colreduce.recipe import Recipe
from colreduce.reduce import REDUCERS
from tests.reference.background import background


def page(rows: int, columns: int, around: int, seed: int = 0) -> Ragged:
    """Return a page of a few different patches, each many times, with a prompt on both sides."""
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randn(5, 16, generator=draw)
    chosen = kinds[torch.randint(5, (rows * columns,), generator=draw)]
    patches = chosen + 0.15 * torch.randn(rows * columns, 16, generator=draw)
    prompt = torch.randn(2 * around, 16, generator=draw)
    tokens = torch.cat([prompt[:around], patches, prompt[around:]])
    special = torch.ones(len(tokens), dtype=torch.bool)
    special[around : around + rows * columns] = False
    return Ragged.pack(
        [torch.nn.functional.normalize(tokens, dim=1)],
        special=[special],
        grid=[torch.tensor([around, rows, columns])],
        importance=[torch.rand(len(tokens), generator=draw).masked_fill(special, 0.0)],
    )


@pytest.mark.parametrize("within", [0.05, 0.1, 0.4])
def test_background_gathers_what_the_first_patch_of_its_kind_is_near_to(within: float):
    pages = [page(5, 7, 2), page(12, 10, 3, seed=1), page(1, 1, 1, seed=2), drifting(60)]
    batch = Ragged.concat(pages)
    cosines = torch.cat([(one.tokens @ one.tokens.T).flatten() for one in pages])
    while bool(((cosines - 1 + within).abs() < 3e-4).any()):
        within += 0.0007  # where rounding decides nothing
    left = REDUCERS["background"].build({"within": within}).reduce(batch, {})
    places = left.assignment.split(batch.lengths.tolist())
    for one, place in zip(pages, places, strict=True):
        assert one.special is not None
        owners = background(one.tokens.numpy(), one.special.tolist(), within)
        same = np.unique(owners, return_inverse=True)[1]
        assert np.unique(place.numpy(), return_inverse=True)[1].tolist() == same.tolist()
    assert left.batch.special is not None
    assert int(left.batch.special.sum()) == 2 * (2 + 3 + 1)  # the prompts stay as they are


def drifting(count: int) -> Ragged:
    """Return a page whose patches are like their neighbours, and less and less like the first."""
    draw = torch.Generator().manual_seed(4)
    steps = 0.35 * torch.randn(count, 16, generator=draw)
    steps[0] = torch.randn(16, generator=draw)
    return Ragged.pack(
        [torch.nn.functional.normalize(steps.cumsum(0), dim=1)],
        special=[torch.zeros(count, dtype=torch.bool)],
        grid=[torch.tensor([0, count // 4, 4])],
        importance=[torch.ones(count)],
    )


def test_markers_go_and_the_page_is_still_a_grid():
    batch = Ragged.concat([page(4, 6, 2), page(3, 3, 1, seed=1)])
    left = REDUCERS["markers"]().reduce(batch, {})
    assert left.batch.lengths.tolist() == [24, 9]
    assert left.batch.grid is not None
    assert left.batch.grid.tolist() == [[0, 4, 6], [0, 3, 3]]
    assert left.assignment[:3].tolist() == [-1, -1, 0]
    assert torch.equal(left.batch.tokens[0], batch.tokens[2])


def test_markers_leave_what_is_nothing_but_markers():
    batch = Ragged.pack([torch.eye(3)], special=[torch.ones(3, dtype=torch.bool)])
    assert REDUCERS["markers"]().reduce(batch, {}).batch.lengths.tolist() == [3]


def test_a_page_that_lost_a_patch_is_no_grid_beside_one_that_did_not():
    batch = Ragged.concat([page(2, 2, 1), page(2, 2, 1, seed=1)])
    mask = torch.ones(12, dtype=torch.bool)
    mask[[0, 2]] = False  # a token of the prompt and a patch of the first page
    kept = batch.keep(mask)
    assert kept.grid is not None
    assert kept.grid.tolist() == [[0, 0, 0], [1, 2, 2]]
    mask[8] = False
    assert batch.keep(mask).grid is None


def passed(recipe: str, batch: Ragged) -> Ragged:
    for reducer in Recipe.parse(f"{recipe} | fp32").reducers:
        batch = reducer.reduce(batch, reducer.fit(batch, seed=0)).batch
    return batch


def test_prune_then_merge_is_two_steps_of_a_recipe():
    batch = page(12, 12, 3)
    assert batch.importance is not None
    weights = batch.importance.double()
    above = int((weights > weights.mean() - 0.25 * weights.std(correction=0)).sum())
    assert len(passed("importance(sigma=-0.25)", batch).tokens) == above
    assert len(passed("importance(sigma=-0.25) | ward(factor=4)", batch).tokens) == above // 4


def test_grid_follows_markers_and_background_precedes_ward():
    batch = page(8, 8, 2)
    assert len(passed("markers | grid(factor=4)", batch).tokens) == 16
    assert len(passed("background | ward(size=3)", batch).tokens) == 3


def colpali() -> Ragged:
    data = os.environ.get("COLREDUCE_DATA")
    if not data:
        pytest.skip("COLREDUCE_DATA is not set")
    file = np.load(Path(data) / "vectors" / "colpali_pages.npz", allow_pickle=False)
    items = [torch.from_numpy(file[f"page_{n}"].astype(np.float32)) for n in range(7)]
    special = [torch.arange(len(one)) >= 1024 for one in items]
    grid = [torch.tensor([0, 32, 32])] * 7
    return Ragged.pack(
        [torch.nn.functional.normalize(one, dim=1) for one in items], special=special, grid=grid
    )


def nearest(page: Tensor, left: Tensor) -> Tensor:
    return (page @ left.T).amax(1)


def test_on_real_pages_every_patch_stays_near_to_what_stands_for_it():
    batch = colpali()
    left = REDUCERS["background"]().reduce(batch, {})
    counts = left.batch.lengths.tolist()
    assert all(200 < count < 800 for count in counts)
    for one, small in zip(batch.unpack(), left.batch.unpack(), strict=True):
        found = nearest(one, small)
        assert float(found.min()) > 0.85
        assert float(found.mean()) > 0.96
    # Blank paper is what is merged: of the two kinds of page the emptier one loses more.
    assert counts[6] < min(counts[:6]) / 1.5


@pytest.mark.parametrize("recipe", ["ward(factor=9)", "background | ward(factor=4)"])
def test_a_real_page_is_found_by_some_of_its_patches(recipe: str, tmp_path: Path):
    batch = colpali()
    names = [f"page-{number}" for number in range(7)]
    with Index.create(tmp_path / "idx", recipe=f"{recipe} | int8", dim=128) as index:
        index.add(names, embeddings=batch)  # type: ignore[arg-type]
        draw = torch.Generator().manual_seed(0)
        for name, page in zip(names, batch.unpack(), strict=True):
            picked = page[torch.randperm(1024, generator=draw)[:16]]
            noise = 0.05 * torch.randn(16, 128, generator=draw)
            query = torch.nn.functional.normalize(picked + noise, dim=1)
            assert index.search(query, k=1)[0].id == name
        found = index.explain(batch.unpack()[3][40:42], "page-3")
        assert found.grid == (32, 32)
        patches = [found.tokens[one].patch for match in found.matches for one in match.tokens]
        assert (1, 8) in patches  # patch 40 was met where it went
        assert (1, 9) in patches


def test_real_pages_without_their_prompt_are_pooled_in_squares():
    small = passed("markers | grid(factor=16)", colpali())
    assert small.lengths.tolist() == [64] * 7
