"""Mergers that go by place agree with their literal versions."""

from __future__ import annotations

import itertools

import pytest
import torch

from colreduce.ragged import Ragged
from colreduce.reduce.grid import Grid
from colreduce.reduce.window import Window
from colreduce.reduce.words import Words
from tests.reference import neighbours
from tests.reference.documents import clustered
from tests.reference.ward import partition


@pytest.mark.parametrize(("count", "size"), [(10, 3), (100, 7), (5, 4), (9, 1)])
def test_runs_are_those_of_the_literal_version(count: int, size: int) -> None:
    labels = Window().group(Ragged.pack([clustered(count)]), torch.tensor([size]), {}).labels
    assert labels.tolist() == neighbours.window(count, size)
    assert len(set(labels.tolist())) == size


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (6, 6), (3, 17), (32, 32), (17, 3), (0, 0)])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 5), (0, 6)])
def test_blocks_of_a_page_are_those_of_the_literal_version(
    rows: int, columns: int, before: int, after: int
) -> None:
    count = rows * columns + before + after
    if count == 0:
        return
    batch = Ragged(
        torch.zeros(count, 2), torch.tensor([count]), grid=torch.tensor([[before, rows, columns]])
    )
    for size in {1, 2, 3, count // 9, count // 4, count - 1} & set(range(1, count)):
        labels = Grid().group(batch, torch.tensor([size]), {}).labels.tolist()
        wanted = neighbours.grid(count, before, rows, columns, size)
        assert partition(labels) == partition(wanted), f"{size} of {count}"
        assert len(set(labels)) == size


def test_pages_of_a_batch_are_cut_each_by_its_own_grid() -> None:
    pages = [(0, 4, 4), (3, 2, 5), (0, 0, 0)]
    counts = [16, 15, 11]
    batch = Ragged(torch.zeros(sum(counts), 2), torch.tensor(counts), grid=torch.tensor(pages))
    sizes = [4, 5, 3]
    labels = Grid().group(batch, torch.tensor(sizes), {}).labels.split(counts)
    for found, page, count, size in zip(labels, pages, counts, sizes, strict=True):
        assert partition(found.tolist()) == partition(neighbours.grid(count, *page, size))


def test_a_quarter_of_a_square_page_is_its_blocks_of_two_by_two() -> None:
    rows = torch.nn.functional.normalize(torch.arange(16.0)[:, None] + torch.eye(16), dim=1)
    page = Ragged(rows, torch.tensor([16]), grid=torch.tensor([[0, 4, 4]]))
    reduced = Grid(factor=4, renormalise=False).reduce(page, {})
    assert reduced.assignment.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    assert torch.allclose(reduced.batch.tokens[0], rows[[0, 1, 4, 5]].mean(0))


def test_protected_tokens_before_a_page_leave_its_grid_whole() -> None:
    page = Ragged(clustered(18), torch.tensor([18]), grid=torch.tensor([[2, 4, 4]]))
    reduced = Grid(protect=2, factor=4).reduce(page, {})
    assert reduced.assignment.tolist() == [
        0,
        1,
        *(2 + label for label in neighbours.blocks(4, 4, 4)),
    ]


WORD_IDS = [-1, 0, 0, 1, 2, 2, 2, 3, 4, 4, 5, -1]
TOKEN_IDS = [1, 7, 8, 9, 7, 8, 8, 9, 7, 8, 8, 1]


@pytest.mark.parametrize("unique", [False, True])
def test_words_are_those_of_the_literal_version(unique: bool) -> None:
    vectors = clustered(12)
    batch = Ragged.pack(
        [vectors, vectors[:3]],
        word_ids=[torch.tensor(WORD_IDS), torch.tensor(WORD_IDS[:3])],
        token_ids=[torch.tensor(TOKEN_IDS), torch.tensor(TOKEN_IDS[:3])],
    )
    reduced = Words(unique=unique, renormalise=False).reduce(batch, {})
    groups = neighbours.words(WORD_IDS, TOKEN_IDS, unique)
    wanted = [neighbours.words(WORD_IDS[:3], TOKEN_IDS[:3], unique)]
    assert reduced.batch.lengths.tolist() == [len(groups), len(wanted[0])]
    for rows, group in zip(reduced.batch.unpack()[0], groups, strict=True):
        assert torch.allclose(rows, vectors[group].mean(0), atol=1e-6)


def test_words_that_are_spelt_alike_are_merged_and_others_are_not() -> None:
    spellings = [
        list(word) for size in (1, 2, 3) for word in itertools.product((5, 6), repeat=size)
    ]
    twice = spellings * 2
    token_ids = torch.tensor([piece for word in twice for piece in word])
    word_ids = torch.tensor([number for number, word in enumerate(twice) for _ in word])
    batch = Ragged.pack([clustered(len(token_ids))], token_ids=[token_ids], word_ids=[word_ids])
    reduced = Words(unique=True).reduce(batch, {})
    assert reduced.batch.lengths.tolist() == [len(spellings)]
