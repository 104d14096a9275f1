"""Colours that differ in grey and for the colour-blind; ticks and numbers in charts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgescope.figures import look
from edgescope.figures.axes import log_ticks, short
from edgescope.figures.scatter import symlog_ticks

# Linear-light matrices for full protanopia, deuteranopia and tritanopia: Machado, Oliveira, Fernandes (2009).
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, matrix: object = BLINDNESS["none"]) -> np.ndarray:
    """CIE 1976 L*a*b* of an sRGB colour as somebody with this vision sees it."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(matrix) @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_palette_grows_lighter_in_steps_that_grey_shows() -> None:
    lightness = [lab(colour)[0] for colour in look.PALETTE]
    assert min(np.diff(lightness)) > 8
    assert lightness[-1] < 80  # still seen on white


@pytest.mark.parametrize("vision", BLINDNESS)
def test_every_two_colours_differ_for_every_common_vision(vision: str) -> None:
    seen = [lab(colour, BLINDNESS[vision]) for colour in look.PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 25


def test_few_runs_take_colours_far_apart_and_many_runs_still_differ() -> None:
    three = [lab(colour)[0] for colour in look.colours(3)]
    assert min(np.diff(three)) > 20
    for count in range(1, 43):
        pairs = list(zip(look.colours(count), look.shapes(count), strict=True))
        assert len(set(pairs)) == count


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.09, 1.2, [0.1, 0.2, 0.5, 1.0]),
        (1e-8, 1.0, [1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
        (3.0, 40.0, [5.0, 10.0, 20.0]),
    ],
)
def test_log_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert [t for t in log_ticks(low, high) if low <= t <= high] == pytest.approx(ticks)


def test_symlog_ticks_are_mirrored_and_hold_zero() -> None:
    assert symlog_ticks(-0.02, 0.02, 1e-4) == pytest.approx([-0.01, -1e-3, -1e-4, 0, 1e-4, 1e-3, 0.01])
    assert symlog_ticks(-0.02, 1e-5, 1e-4) == pytest.approx([-0.01, -1e-3, -1e-4, 0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (135.71, "135.7"),
        (10000.0, "10,000"),
        (3.8e5, "3.8e5"),
        (2e-5, "2e-5"),
        (0.0, "0"),
        (0.05, "0.05"),
        (999.97, "1000"),
    ],
)
def test_numbers_in_charts(value: float, text: str) -> None:
    assert short(value) == text
