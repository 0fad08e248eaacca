"""The hygiene that all reducers share: budgets, means, weights, metadata, places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from colreduce.errors import BadInput, BadParameter
from colreduce.ragged import Ragged
from colreduce.reduce.base import Groups, Reduced, merge, select
from colreduce.reduce.grid import Grid
from colreduce.reduce.window import Window

SQUARE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])


def _merged(labels: list[int], *, renormalise: bool = False, **fields: Tensor) -> Reduced:
    batch = Ragged(SQUARE, torch.tensor([4]), **fields)
    return merge(batch, Groups(torch.tensor(labels)), renormalise=renormalise)


@pytest.mark.parametrize(
    ("parameters", "lengths", "left"),
    [
        ({}, [1, 3, 4, 8, 100], [1, 1, 1, 2, 25]),
        ({"factor": 3}, [1, 2, 3, 10], [1, 1, 1, 3]),
        ({"factor": 1}, [1, 7], [1, 7]),
        ({"keep": 0.3}, [10, 11, 1], [3, 3, 1]),
        ({"keep": 1.0}, [10], [10]),
        ({"size": 5}, [3, 5, 9], [3, 5, 5]),
        ({"factor": 4, "protect": 2}, [1, 2, 3, 10], [1, 2, 3, 4]),
        ({"size": 5, "protect": 2}, [3, 9], [3, 5]),
        ({"size": 1, "protect": 3}, [3, 9], [3, 4]),
    ],
)
def test_budgets(parameters: dict[str, float], lengths: list[int], left: list[int]) -> None:
    assert Window(**parameters).sizes(torch.tensor(lengths)).tolist() == left


def test_two_budgets_are_one_too_many() -> None:
    with pytest.raises(BadParameter, match="name one budget, not factor and size"):
        Window(factor=2, size=3)


def test_groups_become_means_in_the_order_of_their_first_tokens() -> None:
    reduced = _merged([3, 0, 0, 3])
    assert torch.allclose(reduced.batch.tokens, torch.tensor([[0.0, 0.0], [0.3, 0.9]]))
    assert reduced.assignment.tolist() == [0, 1, 1, 0]
    assert reduced.batch.weights is not None
    assert reduced.batch.weights.tolist() == [2, 2]


def test_means_are_scaled_and_those_that_cancel_become_their_first_token() -> None:
    reduced = _merged([0, 1, 1, 0], renormalise=True)
    assert reduced.batch.tokens[0].tolist() == [1, 0]
    assert torch.allclose(reduced.batch.tokens[1], torch.tensor([0.3162278, 0.9486833]))


def test_a_token_alone_is_carried_over_bit_for_bit_whatever_its_length() -> None:
    batch = Ragged(torch.tensor([[0.1, 0.7], [3.0, 4.0]]), torch.tensor([2]))
    reduced = merge(batch, Groups(torch.tensor([0, 1])), renormalise=True)
    assert torch.equal(reduced.batch.tokens, batch.tokens)


def test_a_number_below_zero_prunes() -> None:
    reduced = _merged([2, -1, 2, -1])
    assert reduced.assignment.tolist() == [0, -1, 0, -1]
    assert torch.allclose(reduced.batch.tokens, torch.tensor([[0.8, 0.4]]))


def test_weights_of_an_earlier_merge_count_and_are_added_up() -> None:
    reduced = _merged([0, 0, 1, 1], weights=torch.tensor([3.0, 1.0, 2.0, 5.0]))
    assert torch.allclose(reduced.batch.tokens[0], torch.tensor([0.75, 0.25]))
    assert reduced.batch.weights is not None
    assert reduced.batch.weights.tolist() == [4, 7]


def test_shares_decide_the_mean_and_weights_are_added_up_all_the_same() -> None:
    batch = Ragged(SQUARE, torch.tensor([4]))
    shares = torch.tensor([0.0, 1.0, 3.0, 1.0])
    reduced = merge(batch, Groups(torch.tensor([0, 0, 1, 1]), shares), renormalise=False)
    assert torch.equal(reduced.batch.tokens[0], SQUARE[1])  # the only one that counts
    assert torch.allclose(reduced.batch.tokens[1], torch.tensor([0.2, 0.6]))
    assert reduced.batch.weights is not None
    assert reduced.batch.weights.tolist() == [2, 2]


def test_a_group_without_any_share_becomes_its_plain_mean() -> None:
    batch = Ragged(SQUARE, torch.tensor([4]))
    groups = Groups(torch.tensor([0, 0, 1, 1]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    reduced = merge(batch, groups, renormalise=False)
    assert torch.allclose(reduced.batch.tokens[0], torch.tensor([0.5, 0.5]))


def test_what_is_known_of_tokens_is_kept_where_all_members_agree() -> None:
    reduced = _merged(
        [0, 0, 1, 1],
        token_ids=torch.tensor([7, 7, 8, 9]),
        word_ids=torch.tensor([0, 1, 2, 2]),
        special=torch.tensor([True, True, True, False]),
        importance=torch.tensor([0.5, 0.25, 1.0, 2.0]),
    ).batch
    assert reduced.token_ids is not None
    assert reduced.word_ids is not None
    assert reduced.special is not None
    assert reduced.importance is not None
    assert reduced.token_ids.tolist() == [7, -1]
    assert reduced.word_ids.tolist() == [-1, 2]
    assert reduced.special.tolist() == [True, False]
    assert reduced.importance.tolist() == [0.75, 3.0]


def test_a_page_that_lost_nothing_keeps_its_grid_and_another_has_none() -> None:
    batch = Ragged(
        torch.cat([SQUARE, SQUARE]),
        torch.tensor([4, 4]),
        grid=torch.tensor([[0, 2, 2], [0, 2, 2]]),
    )
    reduced = merge(batch, Groups(torch.tensor([0, 1, 2, 3, 0, 0, 1, 1])), renormalise=True)
    assert reduced.batch.grid is not None
    assert reduced.batch.grid.tolist() == [[0, 2, 2], [0, 0, 0]]


def test_half_precision_means_are_taken_in_single_precision() -> None:
    rows = torch.full((3000, 2), 0.7071, dtype=torch.float16)
    batch = Ragged(rows, torch.tensor([3000]), weights=torch.full((3000,), 60000.0))
    reduced = merge(batch, Groups(torch.zeros(3000, dtype=torch.int64)), renormalise=False)
    assert reduced.batch.tokens.dtype == torch.float16
    assert reduced.batch.tokens.tolist() == [rows[0].tolist()]


def test_a_selection_keeps_order_weights_and_what_is_known() -> None:
    batch = Ragged(
        torch.cat([SQUARE, SQUARE[:2]]),
        torch.tensor([4, 2]),
        token_ids=torch.arange(6),
        weights=torch.arange(6.0) + 1,
    )
    mask = torch.tensor([False, True, False, True, True, False])
    reduced = select(batch, mask)
    assert reduced.batch.lengths.tolist() == [2, 1]
    assert reduced.assignment.tolist() == [-1, 0, -1, 1, 0, -1]
    assert reduced.batch.token_ids is not None
    assert reduced.batch.weights is not None
    assert reduced.batch.token_ids.tolist() == [1, 3, 4]
    assert reduced.batch.weights.tolist() == [2, 4, 5]


def test_what_a_method_needs_is_named_when_it_is_missing() -> None:
    with pytest.raises(BadInput, match="needs grid, which these vectors do not carry") as caught:
        Grid(factor=2).reduce(Ragged.pack([SQUARE]), {})
    assert caught.value.field == "grid"
