"""Axes: their titles in symbols and units, their ticks on logarithmic scales, their limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

X = Literal["step", "time"]

PLAIN = """
datum.value != 0 && (abs(datum.value) >= 1e5 || abs(datum.value) < 1e-3)
    ? replace(format(datum.value, '~e'), 'e+', 'e') : format(datum.value, ',~r')
""".strip()
"""Labels as 0.05, 200, 10,000, 3.8e5: plain as long as they are short."""

FEW_STEPS = 8
"""Steps that all have a tick of their own."""

X_TITLES: dict[str, str] = {"step": "step", "time": "time η · step"}


def x_axis(
    x: str, values: Sequence[float], rows: int = 1, titled: bool = True, gaps: bool = False
) -> tuple[alt.Scale, alt.Axis]:
    """Scale and axis for steps or times.

    Up to ``rows`` measurements share a point, or with ``gaps`` circles mark where there is no value: its title says so.
    """
    low, high = min(values), max(values)
    # A little beyond the last step, so that a run of steps 0 to 399 shows the label 400.
    domain = [0.0 if 0 <= low <= 0.05 * high else low, high + 0.01 * (high - low) if high > low else low + 1]
    note = [] if rows == 1 else [f"mean and range of up to {rows} points"]
    note += ["circles on the axis: no finite value there"] if gaps else []
    title = [X_TITLES.get(x, x), *note] if titled else None
    ticks: dict[str, Any] = {"tickCount": 6}
    if low == high:  # in the middle, since a point on the edge is hardly seen
        domain, ticks = [low - 1, low + 1], {"values": [low]}
    elif x == "step" and high - low <= FEW_STEPS:  # whole numbers, without halves between them
        ticks = {"values": [float(step) for step in range(math.ceil(domain[0]), math.floor(high) + 1)]}
    axis = alt.Axis(title=title, labelExpr=PLAIN, **ticks)
    return alt.Scale(domain=domain, nice=False, zero=False), axis


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Ticks of a logarithmic axis from ``low`` to ``high``: even steps within a part of a decade, 1, 2, 5 over few
    decades, else powers of ten."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 3:
        ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
        inside = [t for t in ticks if low <= t <= high]
        return inside if len(inside) >= 3 else _even_ticks(low, high)
    every = max(1, math.ceil((last - first) / most))
    return [10.0**e for e in range(first, last + 1) if e % every == 0]


def _even_ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers from ``low`` to ``high``, evenly spaced."""
    unit = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(m * unit for m in (1, 2, 5, 10) if (high - low) / (m * unit) <= 8)
    return [round(n * step, 15) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_axis(title: str, values: Sequence[float]) -> tuple[alt.Scale, alt.Axis]:
    """Scale and axis for the positive ``values`` on a logarithmic scale, with a little air at both ends."""
    low, high = min(values), max(values)
    low, high = (low / 1.1, high * 1.1) if high > low else (low / 2, high * 2)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return scale, alt.Axis(title=title, values=log_ticks(low, high), labelExpr=PLAIN)


def linear_axis(title: str | None, values: Sequence[float]) -> tuple[alt.Scale, alt.Axis]:
    """Scale and axis from zero (or the lowest of ``values``, where that is negative) to a little above the highest."""
    low, high = min(0.0, min(values)), max(0.0, max(values))
    if low == high:
        high = 1.0
    air = 0.06 * (high - low)
    domain = [low - air if low < 0 else 0.0, high + air if high > 0 else 0.0]
    return alt.Scale(domain=domain, nice=False, zero=False), alt.Axis(title=title, tickCount=6, labelExpr=PLAIN)


def short(value: float) -> str:
    """A number as it is written inside a chart: four digits, plain as long as it is short."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
