"""Lists of candidates joined by place and by score."""

from __future__ import annotations

import numpy as np
import pytest

from colreduce.candidates import FUSIONS
from colreduce.candidates.base import Found
from colreduce.candidates.fusion import Blend, Rrf


def listed(**scores: float) -> Found:
    """Return a list of rows r0, r1, ... in the order given."""
    rows = np.array([int(name[1:]) for name in scores], np.int64)
    return Found(rows, np.array(list(scores.values()), np.float32))


def test_rrf_adds_one_over_sixty_and_the_place():
    found = Rrf().fuse([listed(r5=9, r2=8), listed(r2=0.4, r7=0.3)], 10)
    assert found.rows.tolist() == [2, 5, 7]
    np.testing.assert_allclose(found.scores, [1 / 62 + 1 / 61, 1 / 61, 1 / 62], rtol=1e-6)


def test_blend_stretches_each_list_to_zero_and_one():
    found = Blend().fuse([listed(r1=10, r2=6, r3=2), listed(r3=-1, r2=-5)], 10)
    assert found.rows.tolist() == [1, 3, 2]
    np.testing.assert_allclose(found.scores, [0.5, 0.5, 0.25])


def test_the_first_list_weighs_as_much_as_it_is_told():
    lists = [listed(r1=1, r2=0), listed(r2=1, r1=0)]
    assert Blend(first=0.9).fuse(lists, 1).rows.tolist() == [1]
    assert Blend(first=0.1).fuse(lists, 1).rows.tolist() == [2]


@pytest.mark.parametrize("fusion", [kind() for kind in FUSIONS.values()], ids=str)
def test_equal_sums_come_by_row_and_empty_lists_do_no_harm(fusion):
    found = fusion.fuse([listed(r9=1.0), listed(r4=1.0), listed()], 5)
    if fusion.name == "rrf":
        assert found.rows.tolist() == [4, 9]
    assert set(found.rows.tolist()) == {4, 9}
    assert fusion.fuse([listed(), listed()], 5).rows.tolist() == []
    assert fusion.fuse([listed(r3=2.0, r1=1.0)], 1).rows.tolist() == [3]


@pytest.mark.parametrize("fusion", [kind() for kind in FUSIONS.values()], ids=str)
def test_no_more_than_k_rows_come_each_once(fusion):
    rng = np.random.default_rng(0)
    lists = [
        Found(
            rng.permutation(50)[:20].astype(np.int64), -np.sort(-rng.random(20)).astype(np.float32)
        )
        for _ in range(3)
    ]
    found = fusion.fuse(lists, 12)
    assert len(found.rows) == len(set(found.rows.tolist())) == 12
    assert np.lexsort((found.rows, -found.scores)).tolist() == list(range(12))
