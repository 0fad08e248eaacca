from __future__ import annotations

import numpy as np
import pytest
import torch

from colreduce.errors import BadInput, ShapeMismatch
from colreduce.ragged import Ragged


def three() -> Ragged:
    items = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.ones(3, 2)]
    ids = [torch.tensor([7]), torch.tensor([8, 9]), torch.tensor([1, 2, 3])]
    return Ragged.pack(items, token_ids=ids)


def test_packing_and_unpacking_gives_the_items_back():
    batch = three()
    assert len(batch) == 3
    assert batch.dim == 2
    assert batch.lengths.tolist() == [1, 2, 3]
    assert [item.tolist() for item in batch.unpack()][1] == [[3, 4], [5, 6]]


def test_every_token_knows_its_item_and_its_place():
    batch = three()
    assert batch.item_of.tolist() == [0, 1, 1, 2, 2, 2]
    assert batch.positions.tolist() == [0, 0, 1, 0, 1, 2]
    assert batch.offsets.tolist() == [0, 1, 3, 6]


def test_keeping_tokens_keeps_what_is_known_of_them():
    kept = three().keep(torch.tensor([True, False, True, True, False, True]))
    assert kept.lengths.tolist() == [1, 1, 2]
    assert kept.token_ids is not None
    assert kept.token_ids.tolist() == [7, 9, 1, 3]


def test_items_can_be_taken_in_any_order_and_twice():
    taken = three().take(torch.tensor([2, 0, 2]))
    assert taken.lengths.tolist() == [3, 1, 3]
    assert taken.token_ids is not None
    assert taken.token_ids.tolist() == [1, 2, 3, 7, 1, 2, 3]


def test_blocks_hold_whole_items_and_lose_none():
    blocks = list(three().blocks(3))
    assert [block.lengths.tolist() for block in blocks] == [[1, 2], [3]]
    assert [len(block) for block in three().blocks(1)] == [1, 1, 1]
    assert torch.equal(Ragged.concat(blocks).tokens, three().tokens)


def test_padding_marks_the_real_tokens():
    padded, mask = three().pad()
    assert padded.shape == (3, 3, 2)
    assert mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert padded[0, 1:].abs().sum() == 0


def test_joining_drops_what_one_part_does_not_know():
    bare = Ragged.pack([torch.ones(2, 2)])
    assert Ragged.concat([three(), bare]).token_ids is None
    assert Ragged.concat([three(), three()]).token_ids is not None


def test_moving_to_half_precision_changes_the_vectors_only():
    moved = three().to("cpu", torch.float16)
    assert moved.tokens.dtype == torch.float16
    assert moved.token_ids is not None
    assert moved.token_ids.dtype == torch.int64


def test_arrays_and_tensors_are_taken_alike():
    assert torch.equal(
        Ragged.pack([np.ones((2, 3), np.float32)]).tokens, Ragged.pack([torch.ones(2, 3)]).tokens
    )


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "empty"),
        ([torch.ones(2, 3), torch.ones(0, 3)], "item 1 holds no vectors"),
        ([torch.ones(2, 3), torch.ones(2, 4)], "item 1 is 4 wide"),
        ([torch.ones(2, 3), torch.full((1, 3), torch.nan)], "item 1 holds a value that is not"),
        ([torch.ones(2, 3, 1)], "wanted \\[tokens, width\\]"),
        ([torch.ones(2, 3, dtype=torch.int64)], "floating point"),
    ],
)
def test_a_bad_item_is_named(items, words):
    with pytest.raises(BadInput, match=words):
        Ragged.pack(items)


def test_lengths_must_add_up():
    with pytest.raises(ShapeMismatch, match="add up to 3"):
        Ragged(torch.ones(4, 2), torch.tensor([1, 2]))
    with pytest.raises(ShapeMismatch, match="word_ids"):
        Ragged(torch.ones(4, 2), torch.tensor([4]), word_ids=torch.ones(3))
