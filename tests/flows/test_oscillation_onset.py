"""The onset of oscillation on sequences whose cosines are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.flows import OscillationOnset


def walk(steps: list[float]) -> list[Tensor]:
    """The points between steps along a line."""
    place, found = torch.zeros(2), []
    for step in steps:
        found.append(place)
        place = place + torch.tensor([step, 0.0])
    return [*found, place]


def test_a_straight_run_does_not_oscillate() -> None:
    onset = OscillationOnset(window=3)
    assert not any(onset.update(w) for w in walk([1.0] * 20))
    assert onset.cosine == pytest.approx(1)
    assert onset.pair is None
    assert onset.step is None


def test_the_pair_is_that_of_the_first_step_below() -> None:
    """Cosines 1, 1, 1, -1, -1, -1, ...: the mean of three is 1/3 after one of them, and -1/3 after two."""
    points = walk([1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    onset = OscillationOnset(window=3, below=-0.3)
    found = [onset.update(w) for w in points]
    assert found == [False] * 6 + [True] * 3
    assert onset.step == 6
    assert torch.equal(onset.pair[0], points[5])
    assert torch.equal(onset.pair[1], points[6])
    assert onset.cosine == pytest.approx(-1 / 3)


def test_a_window_that_is_not_full_says_nothing() -> None:
    onset = OscillationOnset()
    for w in walk([1.0, -1.0] * 5):  # nine cosines
        assert not onset.update(w)
        assert math.isnan(onset.cosine)
    assert onset.update(torch.ones(2))


def test_steps_of_length_zero_count_as_at_right_angles() -> None:
    onset = OscillationOnset(window=2)
    for w in walk([0.0, 0.0, 0.0]):
        onset.update(w)
    assert onset.cosine == 0


def test_later_changes_of_the_weights_do_not_reach_it() -> None:
    onset, w = OscillationOnset(window=1), torch.zeros(1)
    for step in (1.0, -1.0):
        onset.update(w)
        w += step
    onset.update(w)
    assert [float(one) for one in onset.pair] == [1.0, 0.0]


def test_bad_input_is_one_line() -> None:
    with pytest.raises(InputError, match="window=0"):
        OscillationOnset(window=0)
    with pytest.raises(InputError, match="below=-2"):
        OscillationOnset(below=-2.0)
    onset = OscillationOnset()
    onset.update(torch.zeros(3))
    with pytest.raises(InputError, match="shape \\(2,\\); expected shape \\(3,\\)"):
        onset.update(torch.zeros(2))
