"""Rank correlations against SciPy, definitions written out, grids worked by hand, and simulated coverage."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgescope.errors import EdgescopeError, InputError
from edgescope.statistics import granulated_kendall, kendall, partial_rank_correlation
from edgescope.statistics.intervals import Bootstrap

FEW = Bootstrap(resamples=200)


def by_definition(x: Any, y: Any) -> float:
    """tau as Jiang et al. write it: a sum of products of signs over ordered pairs."""
    pairs = list(itertools.permutations(range(len(x)), 2))
    return sum(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in pairs) / len(pairs)


def varied(column: list[int]) -> bool:
    return len(set(column)) > 1


COLUMNS = st.integers(3, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(varied)] * 2)
)


@given(COLUMNS)
@settings(max_examples=60)
def test_tau_a_is_its_definition_and_tau_b_that_of_scipy(columns: tuple[list[int], list[int]]) -> None:
    x, y = columns
    assert kendall(x, y, bootstrap=FEW).value == pytest.approx(by_definition(x, y), abs=1e-12)
    expected = stats.kendalltau(x, y).statistic
    assert kendall(x, y, ties="b", bootstrap=FEW).value == pytest.approx(expected, abs=1e-12)


def test_ties_count_zero_in_tau_a_and_are_left_out_of_tau_b() -> None:
    # Pairs: (1,2) tied in x, (1,3) and (2,3) concordant.
    assert kendall([1, 1, 2], [1, 2, 3]).value == pytest.approx(2 / 3)
    assert kendall([1, 1, 2], [1, 2, 3], ties="b").value == pytest.approx(2 / math.sqrt(2 * 3))


@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("ties", ["a", "b"])
def test_the_interval_covers_the_tau_of_the_population(rho: float, ties: Any) -> None:
    # For a bivariate normal tau is 2/pi asin(rho); a 95% percentile interval of 30 points covers some 93%.
    truth, rng, covered = 2 / math.pi * math.asin(rho), np.random.default_rng(7), 0
    for _ in range(200):
        x, y = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=30).T
        found = kendall(x, y, ties=ties, bootstrap=FEW)
        covered += found.low <= truth <= found.high
    assert 0.87 * 200 <= covered <= 0.99 * 200


def test_an_interval_repeats_with_its_seed_narrows_with_its_level_and_has_no_width_at_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    wide, same = kendall(x, y), kendall(x, y)
    assert (wide.low, wide.high) == (same.low, same.high)
    narrow = kendall(x, y, bootstrap=Bootstrap(level=0.5))
    assert wide.low < narrow.low < wide.value < narrow.high < wide.high
    perfect = kendall(x, 3 * x)
    assert (perfect.value, perfect.low, perfect.high) == (1, 1, 1)


def test_granulated_on_a_grid_worked_by_hand() -> None:
    # Learning rates 1, 2, 3 down, batch sizes 8, 16 across. Gap and measure:
    gap = [[1, 2], [3, 4], [5, 6]]
    measure = [[1, 3], [2, 1], [3, 2]]
    # Along lr: batch 8 has 1,2,3 against 1,3,5: tau 1. Batch 16 has 3,1,2 against 2,4,6: -1, -1, +1: tau -1/3.
    # Along batch: lr 1 has 1,3: +1; lr 2 has 2,1: -1; lr 3 has 3,2: -1.
    lr, batch = [1, 1, 2, 2, 3, 3], [8, 16] * 3
    found = granulated_kendall(np.ravel(measure), np.ravel(gap), {"lr": lr, "batch": batch})
    assert found.axes["lr"].value == pytest.approx(1 / 3)
    assert found.axes["batch"].value == pytest.approx(-1 / 3)
    assert found.mean.value == pytest.approx(0, abs=1e-15)
    assert found.lines == {"lr": 2, "batch": 3}
    assert found.axes["lr"].low <= 1 / 3 <= found.axes["lr"].high
    only = granulated_kendall(np.ravel(measure), np.ravel(gap), {"lr": lr, "batch": batch}, over=["lr"])
    assert only.mean.value == pytest.approx(1 / 3)
    assert list(only.axes) == ["lr"]


def test_a_run_that_is_missing_shortens_its_lines_and_a_tie_on_a_line_counts_zero() -> None:
    # The grid above without (lr 3, batch 16): along lr 1 and (3,1 against 2,4) -1; along batch +1 and -1.
    lr, batch = [1, 1, 2, 2, 3], [8, 16, 8, 16, 8]
    found = granulated_kendall([1, 3, 2, 1, 3], [1, 2, 3, 4, 5], {"lr": lr, "batch": batch})
    assert found.axes["lr"].value == pytest.approx(0, abs=1e-15)
    assert found.axes["batch"].value == pytest.approx(0, abs=1e-15)
    assert found.lines == {"lr": 2, "batch": 2}
    tied = granulated_kendall([1, 1, 2, 3], [1, 2, 3, 4], {"lr": ["low", "low", "high", "high"], "batch": [1, 2, 1, 2]})
    assert tied.axes["batch"].value == pytest.approx(1 / 2)


def test_a_resample_that_leaves_a_line_without_a_pair_keeps_the_other_lines() -> None:
    # Along lr tau is +1 at batch 1 and -1 at batch 2; resamples that have one of the lines alone say so.
    found = granulated_kendall([1, 4, 3, 2], [1, 2, 3, 4], {"lr": [1, 1, 2, 2], "batch": [1, 2, 1, 2]}).axes["lr"]
    assert (found.value, found.low, found.high) == (0, -1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_granulated_is_the_mean_of_the_definition_over_all_lines(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = list(itertools.product(range(4), range(3), range(2)))
    x, y = rng.normal(size=(2, len(grid)))
    columns = dict(zip(("lr", "batch", "seed"), zip(*grid, strict=True), strict=True))
    found = granulated_kendall(x, y, columns, over=["lr", "batch"], bootstrap=FEW)
    psi = []
    for axis in (0, 1):
        lines: dict[Any, list[int]] = {}
        for i, setting in enumerate(grid):
            lines.setdefault(setting[:axis] + setting[axis + 1 :], []).append(i)
        psi.append(np.mean([by_definition(x[line], y[line]) for line in lines.values()]))
    assert [found.axes["lr"].value, found.axes["batch"].value] == pytest.approx(psi)
    assert found.mean.value == pytest.approx(np.mean(psi))
    assert found.mean.low < found.mean.value < found.mean.high


def residual_correlation(x: np.ndarray, y: np.ndarray, controls: list[np.ndarray]) -> float:
    """The correlation of what least squares on the controls and a constant leaves of x and y."""
    design = np.stack([np.ones_like(x), *controls], 1)
    left = [column - design @ np.linalg.lstsq(design, column, rcond=None)[0] for column in (x, y)]
    return float(np.corrcoef(*left)[0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_partial_is_the_correlation_of_residuals_of_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lr, batch = (np.array(c, dtype=float) for c in zip(*itertools.product(range(5), range(5)), strict=True))
    x = lr - batch + rng.normal(size=25)
    y = lr + 0.5 * x + rng.normal(size=25)
    given_columns = {"log lr": np.log(lr + 1), "log batch": np.log(batch + 1)}
    found = partial_rank_correlation(x, y, given_columns)
    ranks = [stats.rankdata(column) for column in (x, y, lr, batch)]
    assert found.value == pytest.approx(residual_correlation(ranks[0], ranks[1], ranks[2:]))
    assert found.low < found.value < found.high
    plain = partial_rank_correlation(x, y, {"lr": lr, "batch": batch})
    assert plain == found  # ranks do not change under a logarithm


@pytest.mark.parametrize("seed", range(4))
def test_partial_kendall_is_the_formula_for_one_given_column(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 4, size=15).astype(float)
    x, y = z + rng.normal(size=15), z + rng.integers(0, 3, size=15)
    xy, xz, yz = (stats.kendalltau(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    found = partial_rank_correlation(x, y, {"z": z}, method="kendall", bootstrap=FEW)
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value <= found.high


def test_a_measure_that_only_repeats_the_learning_rate_says_nothing_given_it() -> None:
    rng = np.random.default_rng(1)
    lr = np.repeat(np.arange(20.0), 5)
    x, y = lr + rng.normal(size=100), lr + rng.normal(size=100)
    assert kendall(x, y, bootstrap=FEW).low > 0.7
    found = partial_rank_correlation(x, y, {"log lr": lr})
    assert found.low < 0 < found.high


GRID = {"lr": [1, 1, 2, 2], "batch": [1, 2, 1, 2]}
FINE = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kendall([1, 2], [1, 2]), "2 points; expected at least 3"),
        (lambda: kendall([1, 2, 3], [1, 2]), "gap has 2 entries; expected 3"),
        (lambda: kendall([2, 2, 2], [1, 2, 3]), "measure is constant"),
        (lambda: kendall([1, 2, 3], [1, math.nan, math.inf]), "2 of 3 entries of gap are NaN or infinite"),
        (lambda: kendall(["a", "b", "c"], [1, 2, 3]), "measure has entries that are not numbers"),
        (lambda: kendall([[1, 2, 3]], [1, 2, 3]), "measure has shape"),
        (lambda: kendall(FINE, FINE, ties="c"), "ties='c'"),
        (lambda: granulated_kendall(FINE, FINE, GRID, over=["depth"]), "axis 'depth' is missing; expected one of lr"),
        (lambda: granulated_kendall(FINE, FINE, {}), "no axes were given"),
        (lambda: granulated_kendall(FINE, FINE, {"lr": [1, 2]}), "axis 'lr' has 2 entries; expected 4"),
        (lambda: granulated_kendall(FINE, FINE, {"lr": [1, 1, 2, 2]}), "4 runs with 2 different settings"),
        (lambda: granulated_kendall(FINE, FINE, GRID | {"seed": [0] * 4}), "axis 'seed' has one setting only"),
        (lambda: granulated_kendall(FINE, FINE, {"lr": FINE, "b": FINE}), "no two runs differ in 'lr' alone"),
        (lambda: partial_rank_correlation(FINE, FINE, {}), "no columns to condition on"),
        (lambda: partial_rank_correlation(FINE, [1, 3, 2, 4], {"lr": FINE}), "measure, given 'lr' determine each"),
        (lambda: partial_rank_correlation(FINE, [1, 3, 2, 4], {"lr": [1] * 4}), "given 'lr' is constant"),
        (lambda: partial_rank_correlation([1, 2, 3], [1, 3, 2], GRID), "given 'lr' has 4 entries"),
        (lambda: partial_rank_correlation(FINE, FINE, {"a": FINE, "b": FINE, "c": FINE}), "4 points given 3 columns"),
        (lambda: partial_rank_correlation(FINE, FINE, {"a": FINE}, method="pearson"), "method='pearson'"),
        (lambda: Bootstrap(resamples=3), "resamples=3"),
        (lambda: Bootstrap(level=95), "level=95"),
    ],
)
def test_bad_input_is_one_line_that_names_the_fault(call: Any, words: str) -> None:
    with pytest.raises(EdgescopeError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)
