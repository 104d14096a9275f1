from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgescope.board.downsampling import MOST_POINTS, downsample

VALUES = arrays(np.float64, st.integers(1, 400), elements=st.floats(width=32))


@given(VALUES, st.integers(8, 100))
def test_what_is_kept_was_measured_in_order_and_is_short(values: np.ndarray, most: int) -> None:
    steps = np.arange(len(values)) * 3
    kept_steps, kept = downsample(steps, values, most)
    assert len(kept) <= most
    assert len(kept) == len(kept_steps) >= min(len(values), 2)
    assert (np.diff(kept_steps) > 0).all()
    np.testing.assert_array_equal(kept, values[kept_steps // 3])
    assert kept_steps[0] == steps[0]
    assert kept_steps[-1] == steps[-1]


@given(VALUES, st.integers(8, 100))
def test_no_spike_and_no_gap_is_lost(values: np.ndarray, most: int) -> None:
    _, kept = downsample(np.arange(len(values)), values, most)
    finite = values[np.isfinite(values)]
    if len(finite):
        assert np.nanmax(kept[np.isfinite(kept)]) == finite.max()
        assert np.nanmin(kept[np.isfinite(kept)]) == finite.min()
    assert np.isfinite(kept).all() == np.isfinite(values).all()


@given(VALUES)
def test_a_short_series_is_kept_whole(values: np.ndarray) -> None:
    steps, kept = downsample(np.arange(len(values)), values, max(8, len(values)))
    np.testing.assert_array_equal(kept, values)
    assert len(steps) == len(values)


@pytest.mark.parametrize("place", [0, 1, 123_456, 999_999])
def test_one_reading_in_a_million_is_seen(place: int) -> None:
    values = np.zeros(1_000_000)
    values[place] = 1.0
    steps, kept = downsample(np.arange(len(values)), values)
    assert steps[kept == 1.0].tolist() == [place]
    assert len(kept) <= MOST_POINTS
