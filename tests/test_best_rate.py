"""The best learning rate of a table of runs, and the interval of rates that are as good."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from edgescope.training.best_rate import best_rate


def table(**columns: Any) -> pl.DataFrame:
    count = len(columns["lr"])
    usual = {"reached": [True] * count, "diverged": [False] * count, "steps": [10] * count}
    return pl.DataFrame(usual | columns)


def interval(runs: pl.DataFrame, criterion: Any = "test_loss") -> tuple[float, float, float] | None:
    found = best_rate(runs, criterion)
    return None if found is None else (found.low, found.lr, found.high)


def test_one_seed_has_a_noise_of_a_hundredth() -> None:
    runs = table(lr=[0.8, 0.1, 0.2, 0.4, 0.05], test_loss=[1.0091, 1.0, 1.0099, 1.0101, 1.2])
    found = best_rate(runs, "test_loss")
    assert found is not None
    # 0.8 is as good as 0.2, but 0.4 between them is not
    assert (found.low, found.lr, found.high, found.noise) == (0.1, 0.1, 0.2, 0.01)
    assert (found.low_open, found.high_open, found.seeds) == (False, False, 1)
    ends = best_rate(runs.filter(pl.col("lr").is_in([0.1, 0.2])), "test_loss")
    assert ends is not None
    assert (ends.low_open, ends.high_open) == (True, True)


def test_several_seeds_have_a_noise_of_one_standard_error() -> None:
    lr = [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.4, 0.4, 0.4]
    losses = [1.0, 1.3, 1.6, 1.1, 1.4, 1.7, 1.3, 1.5, 1.7]
    found = best_rate(table(lr=lr, test_loss=losses), "test_loss")
    assert found is not None
    assert found.value == pytest.approx(1.3)
    assert found.noise == pytest.approx(0.3 / 3**0.5)  # the standard deviation is 0.3, over the root of 3 seeds
    assert (found.low, found.lr, found.high, found.seeds) == (0.1, 0.1, 0.2, 3)  # 1.4 is within 0.173 of 1.3, 1.5 not


def test_what_does_not_count() -> None:
    lr, losses = [0.1, 0.1, 0.2, 0.2, 0.4, 0.4], [2.0, 2.0, 1.0, None, 1.5, 1.5]
    diverged = table(lr=lr, test_loss=losses, diverged=[False, False, False, True, False, False])
    assert interval(diverged) == (0.4, 0.4, 0.4)
    reached = [True, True, False, True, True, False]
    cut_off = table(lr=lr, test_loss=[2.0, 2.0, 1.0, 1.0, 1.5, 1.5], reached=reached)
    assert interval(cut_off) == (0.1, 0.1, 0.1)  # the others have a run that did not reach the stop loss
    none_reached = cut_off.with_columns(reached=pl.lit(False))
    assert interval(none_reached) == (0.2, 0.2, 0.2)
    assert interval(none_reached, "steps") is None
    assert interval(diverged.with_columns(diverged=pl.lit(True))) is None
    failed = table(lr=lr, test_loss=[2.0, 2.0, 1.5, 1.5, 1.0, 1.0])[:5]  # of 0.4 one run is missing
    assert interval(failed) == (0.2, 0.2, 0.2)


def test_the_number_of_steps_is_compared_too() -> None:
    runs = table(lr=[0.1, 0.2, 0.4], steps=[200, 100, 101], test_loss=[None] * 3)
    assert interval(runs, "steps") == (0.2, 0.2, 0.4)
