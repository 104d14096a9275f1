"""The difference of two rank correlations against SciPy's, and its interval by how often it covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from edgescope.errors import InputError
from edgescope.statistics.intervals import Bootstrap
from edgescope.statistics.kendall_difference import kendall_difference


def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two measures that follow a target equally well, and that share half of their noise."""
    target, shared = rng.normal(size=n), rng.normal(size=n)
    return target + shared + rng.normal(size=n), target + shared + rng.normal(size=n), target


def test_the_value_is_the_difference_of_scipys() -> None:
    x, y, z = drawn(np.random.default_rng(0), 30)
    z = np.round(z, 1)  # with ties
    found = kendall_difference(x.tolist(), y.tolist(), z.tolist())
    assert found.value == pytest.approx(kendalltau(x, z).statistic - kendalltau(y, z).statistic, abs=1e-12)
    assert found.low < found.value < found.high


def test_the_interval_covers_no_difference_where_there_is_none() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        x, y, z = (column.tolist() for column in drawn(rng, 30))
        found = kendall_difference(x, y, z, Bootstrap(resamples=300))
        inside += found.low <= 0 <= found.high
    assert inside >= 90


def test_constant_columns_are_refused() -> None:
    with pytest.raises(InputError, match="second"):
        kendall_difference([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
