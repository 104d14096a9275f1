"""Runs to a threshold: the regime of each rate, and the table of a curve."""

from __future__ import annotations

import math

import pytest

from edgescope.training import End, regime_of, tradeoff_table


@pytest.mark.parametrize(
    ("over", "regime"),
    [
        (0.2, "below the edge"),
        (0.89, "below the edge"),
        (0.91, "edge of stability"),
        (1.09, "edge of stability"),
        (1.11, "above the edge"),
        (3.0, "above the edge"),
    ],
)
def test_above_the_critical_rate_the_final_sharpness_beside_2_over_lr_decides(over: float, regime: str) -> None:
    for lr in (0.5, 7.0):
        assert regime_of(lr, 0.5, diverged=False, sharpness=over * 2 / lr) == regime


def test_the_other_regimes() -> None:
    assert regime_of(0.4999, 0.5, False, 4.0) == "flow-aligned"
    assert regime_of(0.6, 0.5, False) == regime_of(0.6, 0.5, False, math.nan) == "above critical"
    assert regime_of(0.6, 0.5, True, 2 / 0.6) == "diverged"
    assert regime_of(0.6, None, False, 2 / 0.6) == "not known"


def test_a_table_has_a_row_a_rate_in_order_and_nulls_where_a_run_diverged() -> None:
    lost, held = (
        End(lr, 9, not diverged, diverged, sharpness, 0.0, 1.0, 1.0, 0.1, math.nan, math.nan)
        for lr, diverged, sharpness in ((4.0, True, math.nan), (2.0, False, 0.4))
    )
    rows = tradeoff_table([lost, held], 1.0)
    assert rows["lr"].to_list() == [2.0, 4.0]
    assert rows["regime"].to_list() == ["below the edge", "diverged"]
    assert rows["sharpness"].to_list() == [0.4, None]
    assert rows["test_loss"].null_count() == 2
