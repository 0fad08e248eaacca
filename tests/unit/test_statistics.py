import numpy as np
import pytest

from colreduce.errors import BadInput
from colreduce.evaluate.statistics import Interval, bootstrap, bootstrap_ratio, resampled_means


def test_values_that_are_all_alike_leave_no_doubt():
    assert bootstrap([0.5, 0.5, 0.5], seed=1) == Interval(0.5, 0.5, 0.5)


def test_one_query_alone_is_its_own_interval():
    assert bootstrap([0.25], seed=1) == Interval(0.25, 0.25, 0.25)


def test_the_same_seed_draws_the_same_queries():
    values = np.random.default_rng(0).random(40)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_blocks_of_draws_are_draws_like_any_other(monkeypatch):
    values = np.random.default_rng(0).random((30, 2))
    whole = resampled_means(values, 7, draws=100)
    monkeypatch.setattr("colreduce.evaluate.statistics.BLOCK_DRAWN", 30 * 7)
    np.testing.assert_allclose(resampled_means(values, 7, draws=100), whole)


def test_nineteen_of_twenty_intervals_cover_the_mean_they_were_drawn_from():
    rng = np.random.default_rng(5)
    covered = [
        bootstrap(rng.beta(2.0, 2.0, size=100), seed=one, draws=500).covers(0.5)
        for one in range(300)
    ]
    assert 0.90 <= np.mean(covered) <= 0.99


def test_a_wider_level_gives_a_wider_interval():
    values = np.random.default_rng(0).random(40)
    narrow, wide = bootstrap(values, 0, level=0.5), bootstrap(values, 0, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_ratio_of_a_system_to_itself_is_one_without_doubt():
    values = np.random.default_rng(0).random(40)
    assert bootstrap_ratio(values, values, seed=2) == Interval(1.0, 1.0, 1.0)


def test_pairing_makes_the_ratio_of_two_like_systems_certain():
    values = np.random.default_rng(0).random(200)
    paired = bootstrap_ratio(0.9 * values, values, seed=2)
    assert paired.high - paired.low < 1e-9
    assert paired.value == pytest.approx(0.9)


def test_nothing_is_the_whole_of_nothing():
    assert bootstrap_ratio([0.0, 0.0], [0.0, 0.0], seed=0) == Interval(1.0, 1.0, 1.0)


@pytest.mark.parametrize("values", [[], [[0.1, 0.2]], [np.nan, 1.0], 3.0])
def test_values_that_are_not_one_finite_number_a_query_are_refused(values):
    with pytest.raises(BadInput):
        bootstrap(values, seed=0)


def test_ratios_need_as_many_values_above_as_below():
    with pytest.raises(BadInput, match=r"shapes \(2,\), \(3,\)"):
        bootstrap_ratio([1, 2], [1, 2, 3], seed=0)


def test_a_level_is_a_share():
    with pytest.raises(BadInput, match="level between 0 and 1"):
        bootstrap([1.0, 2.0], seed=0, level=95)
