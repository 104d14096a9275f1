"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgescope.report.numbers import duration, number

NARROW = "\u202f"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.01239, "1.012"),
        (0.0001, "0.0001"),
        (0.00001234, "1.234×10⁻⁵"),
        (3.8e12, "3.8×10¹²"),
        (-0.5, "−0.5"),
        (0.0, "0"),
        (200.0, "200"),
        (431.27, "431.3"),
        (9999.96, f"10{NARROW}000"),
        (12345.6, f"12{NARROW}346"),
        (1234567, f"1{NARROW}234{NARROW}567"),
        (2021, "2021"),
        (-3, "−3"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "not measured"),
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        ("tanh", "tanh"),
        (np.float32(0.5), "0.5"),
        (np.int64(12345), f"12{NARROW}345"),
    ],
)
def test_number(value: Any, text: str) -> None:
    assert number(value) == text


@given(st.floats(-1e300, 1e300))
def test_four_digits_are_kept(value: float) -> None:
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    text = number(value).replace("×10", "e").translate(raised).replace(NARROW, "")
    assert float(text) == pytest.approx(value, rel=5.001e-4, abs=1e-320)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4211, f"0.421{NARROW}s"),
        (59.94, f"59.9{NARROW}s"),
        (59.96, f"1{NARROW}min 00{NARROW}s"),
        (245, f"4{NARROW}min 05{NARROW}s"),
        (7800, f"2{NARROW}h 10{NARROW}min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
