import numpy as np
import pytest

from colreduce.errors import BadInput
from colreduce.evaluate.statistics import (
    Interval,
    bootstrap,
    bootstrap_ratio,
    holm,
    randomisation_tests,
    resampled_means,
    t_tests,
)


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
    intervals = [bootstrap(rng.beta(2.0, 2.0, size=100), seed=one, draws=500) for one in range(300)]
    assert 0.90 <= np.mean([one.low <= 0.5 <= one.high for one in intervals]) <= 0.99


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


def columns(*gaps: object) -> np.ndarray:
    return np.array(gaps, dtype=float).T


def test_few_queries_are_tested_over_every_assignment_of_signs():
    # Of the 8 assignments of signs to 1, 2, 3 two are as far from 0 as the one that was seen;
    # 1, 2, -3 add up to 0, and nothing is nearer; where nothing differs, nothing is found.
    found = randomisation_tests(columns([1, 2, 3, 0], [1, 2, -3, 0], [0, 0, 0, 0]), seed=0)
    assert found.tolist() == [2 / 8, 1.0, 1.0]


def test_drawn_assignments_come_near_to_all_of_them():
    gaps = np.random.default_rng(5).normal(0.25, 1, (14, 1))
    [exact] = randomisation_tests(gaps, 0, flips=1 << 14)
    [drawn] = randomisation_tests(gaps, 0, flips=(1 << 14) - 1)
    assert drawn == pytest.approx(exact, abs=0.01)
    assert drawn != exact
    assert [drawn] == randomisation_tests(gaps, 0, flips=(1 << 14) - 1)
    # Nothing that was drawn is as far as a difference that all queries share.
    assert randomisation_tests(np.full((40, 1), 0.1), 0, flips=999) == [1 / 1000]


def test_columns_are_tested_as_if_each_were_alone():
    gaps = np.random.default_rng(3).normal(0.1, 1, (60, 3))
    gaps[5:, 1] = 0
    together = randomisation_tests(gaps, 4, flips=2000)
    alone = [randomisation_tests(gaps[:, [one]], 4, flips=2000)[0] for one in range(3)]
    assert together.tolist() == alone
    assert t_tests(gaps).tolist() == [t_tests(gaps[:, [one]])[0] for one in range(3)]


def test_equal_systems_are_told_apart_as_often_as_the_level_says():
    gaps = np.random.default_rng(11).normal(size=(40, 2000))
    assert 0.04 < np.mean(randomisation_tests(gaps, 1, flips=1999) < 0.05) < 0.06
    assert 0.04 < np.mean(t_tests(gaps) < 0.05) < 0.06


def test_both_paired_tests_agree_on_ordinary_differences():
    gaps = np.random.default_rng(2).normal(0.15, 1, (200, 4))
    np.testing.assert_allclose(randomisation_tests(gaps, 0), t_tests(gaps), atol=0.01)


def test_the_t_test_is_that_of_scipy():
    from scipy.stats import ttest_1samp

    gaps = np.random.default_rng(9).normal(0.2, 1, (23, 3))
    np.testing.assert_allclose(t_tests(gaps), ttest_1samp(gaps, 0.0).pvalue)


def test_differences_that_are_all_alike_leave_the_t_test_nothing_to_weigh():
    assert t_tests(columns([0, 0], [1, 1])).tolist() == [1.0, 0.0]
    assert t_tests(columns([1])).tolist() == [1.0]


def test_corrected_p_values_are_those_of_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_paired_test_refuses_what_is_no_number():
    with pytest.raises(BadInput, match="wanted finite values"):
        randomisation_tests(columns([1.0, np.nan]), seed=0)
