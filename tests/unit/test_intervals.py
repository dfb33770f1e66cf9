"""Each formula of `docs/statistics.md`, and how often intervals hold the truth."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from continuum.benchmark import intervals
from continuum.benchmark.intervals import Series, between, enough, order_statistics, percentile_of
from continuum.testing import coverage

SIMULATIONS = 1000


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.706204736),
        (2, 4.3026527299),
        (4, 2.7764451052),
        (9, 2.2621571628),
        (30, 2.0422724563),
        (1000, 1.9623390808),
    ],
)
def test_students_t_is_that_of_the_tables(degrees: int, quantile: float) -> None:
    assert intervals.student_t(degrees) == pytest.approx(quantile, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "value", "chance"),
    [
        (0.5, 0.5, 0.25, 1 / 3),
        (1, 1, 0.3, 0.3),
        (2, 3, 0.5, 0.6875),
        (0.5, 4.5, 0.3, 0.918873811154159),
        (96, 5, 0.95, 0.43598130068571),
        (4750, 251, 0.95, 0.516817819647803),
    ],
)
def test_the_beta_function_is_that_of_the_tables(
    first: float, second: float, value: float, chance: float
) -> None:
    assert intervals.beta(first, second, value) == pytest.approx(chance, abs=1e-9)
    assert intervals.beta(first, second, value) + intervals.beta(
        second, first, 1 - value
    ) == pytest.approx(1)


def binomial(samples: int, share: float, at_most: int) -> float:
    return sum(
        math.comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(at_most + 1)
    )


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_ranks_are_those_of_the_binomial_distribution(share: float) -> None:
    ranks = order_statistics(200, share)
    assert ranks.low is not None
    assert ranks.high is not None
    # Between two whole ranks the chance passes 2.5 %.
    assert (
        binomial(200, share, math.floor(ranks.low) - 1)
        < 0.025
        < (binomial(200, share, math.ceil(ranks.low) - 1))
    )
    assert (
        1 - binomial(200, share, math.floor(ranks.high) - 1)
        > 0.025
        > 1 - binomial(200, share, math.ceil(ranks.high) - 1)
    )


def test_a_rank_beyond_the_largest_sample_is_none() -> None:
    # 1 - 0.95^n, the chance that the largest sample lies above the 95th percentile, is 97.5 % at 72.
    assert order_statistics(71, 0.95).high is None
    assert order_statistics(73, 0.95).high is not None
    assert order_statistics(3, 0.5).low is None


def test_percentiles_are_median_unbiased() -> None:
    ordered = np.arange(1.0, 101.0)
    assert percentile_of(ordered, 50) == 50.5
    # n q + (q + 1) / 3, between neighbours in proportion.
    assert percentile_of(ordered, 95) == pytest.approx(95.65)
    assert percentile_of(np.array([7.0]), 99) == 7
    random = np.random.default_rng(1)
    found = [percentile_of(np.sort(random.random(60)), 95) for _ in range(4000)]
    assert np.median(found) == pytest.approx(0.95, abs=0.002)


def test_a_percentile_among_infinite_samples_is_infinite() -> None:
    ordered = np.array([1.0, 2.0, 3.0, np.inf])
    assert percentile_of(ordered, 50) == 2.5
    assert percentile_of(ordered, 90) == math.inf


def test_enough_is_five_samples_beyond() -> None:
    assert [enough(n, 95) for n in (99, 100)] == [False, True]
    assert [enough(n, 99) for n in (499, 500)] == [False, True]


def test_an_interval_over_repetitions_is_students_t() -> None:
    found = between(np.array([100.0, 110.0, 105.0]))
    assert found.value == 105
    assert found.high == pytest.approx(105 + 4.3026527 * 5 / math.sqrt(3))
    assert found.low == pytest.approx(105 - 4.3026527 * 5 / math.sqrt(3))


def test_an_interval_of_what_cannot_be_negative_ends_at_zero() -> None:
    assert between(np.array([1.0, 9.0]), positive=True).low == 0
    assert between(np.array([1.0, 9.0])).low < 0  # type: ignore[operator]


@pytest.mark.parametrize("figures", [[5.0], [3.3, 3.3, 3.3], [1.0, math.inf]])
def test_figures_that_say_nothing_of_their_error_have_no_interval(figures: list[float]) -> None:
    found = between(np.array(figures))
    assert (found.low, found.high) == (None, None)


def test_the_mean_of_a_run_is_by_batch_means() -> None:
    values = np.random.default_rng(2).normal(100, 10, 400)
    series = Series(values)
    assert series.batches == 10
    means = values.reshape(10, 40).mean(axis=1)
    least = intervals.student_t(9) * means.std(ddof=1) / math.sqrt(10)
    independent = intervals.student_t(9) * values.std(ddof=1) / math.sqrt(400)
    found = series.mean
    assert found.value == pytest.approx(values.mean())
    assert found.high is not None
    wide = found.high - found.value
    assert wide >= max(least, independent) * (1 - 1e-9)
    assert wide < 1.5 * max(least, independent)


def test_the_correlation_time_is_that_of_the_process() -> None:
    random = np.random.default_rng(3)
    for correlation, time in ((0.0, 1.0), (0.6, 4.0), (0.9, 19.0)):
        values = coverage.autoregressive(correlation)(random, 1500)
        assert Series(values).correlation_time == pytest.approx(time, rel=0.3)
    # Blocks of a long series know it as well.
    values = coverage.autoregressive(0.9)(random, 60_000)
    assert Series(values).correlation_time == pytest.approx(19, rel=0.2)


def test_endpoints_that_take_turns_do_not_hide_what_comes_slowly() -> None:
    random = np.random.default_rng(4)
    usual = np.tile([0.0, 40.0, -20.0, 5.0], 300)
    slow = coverage.autoregressive(0.95)(random, 1200)
    assert Series(slow + usual, usual).correlation_time == pytest.approx(
        Series(slow).correlation_time
    )


@pytest.mark.parametrize(
    "values",
    [
        np.arange(300.0),
        np.cumsum(np.random.default_rng(5).standard_normal(300)),
        np.full(300, 3.3),
        np.random.default_rng(5).standard_normal(19),
    ],
    ids=["a trend", "a random walk", "all equal", "few"],
)
def test_a_run_that_says_nothing_of_its_error_has_no_interval(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    series = Series(values)
    for found in (series.mean, series.percentile(50)):
        assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize("repetitions", [2, 3, 5, 10])
@pytest.mark.parametrize(("samples", "apart"), [(60, 1.0), (200, 0.2)])
def test_intervals_over_repetitions_hold_the_truth(
    repetitions: int, samples: int, apart: float
) -> None:
    found = coverage.over_repetitions(repetitions, samples, apart, SIMULATIONS, seed=1)
    for name, each in found.items():
        assert each.given == SIMULATIONS
        assert 93 <= each.percent <= 97, name


@pytest.mark.parametrize("samples", [300, 3000])
def test_intervals_within_a_run_hold_the_truth_though_samples_depend(samples: int) -> None:
    process = coverage.autoregressive(0.9)
    found = coverage.within_run(process, coverage.NORMAL, samples, 300, seed=1)
    for name, each in found.items():
        assert each.given > 0.8 * each.simulated
        assert each.percent >= 88, name


def test_the_mean_of_other_runs_lies_in_an_interval_as_often_as_told() -> None:
    random = np.random.default_rng(6)
    for repetitions, further, percent in ((3, 9, 94), (5, 9, 94), (3, 1, 91), (10, 1, 86)):
        runs = random.normal(100, 5, (4000, 1 + further, repetitions))
        held = 0
        for figures in runs:
            found = between(figures[0])
            assert found.low is not None
            assert found.high is not None
            held += found.low <= figures[1:].mean() <= found.high
        assert held / 40 == pytest.approx(percent, abs=1.5)


def test_every_test_that_the_page_names_exists() -> None:
    repository = Path(__file__).parents[2]
    page = (repository / "docs" / "statistics.md").read_text(encoding="utf-8")
    there = "".join(
        path.read_text(encoding="utf-8") for path in (repository / "tests" / "unit").glob("*.py")
    )
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 10
    assert not {name for name in named if f"def {name}(" not in there}
