"""One look for every chart: fonts, sizes, colours, shapes. Readable in grey, and without telling red from green."""

from __future__ import annotations

from typing import Any

INK = "#1f2328"
MUTED = "#656d76"
GRID = "#e6e8eb"
ALARM = "#b3261e"

PALETTE = ["#2e1e4e", "#8a2a24", "#1a63bc", "#8b8410", "#e8808d", "#4fc6e8"]
"""Ordered from dark to light, so that the order survives a grey printer and every common colour blindness."""

SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right"]
"""The second sign of a run; seven against six colours, so that forty-two runs differ."""

DASH = [5, 3]
"""Reserved for what is not a trained run's own curve: a threshold, or the test loss beside the training loss."""

FADES = [1.0, 0.55, 0.4, 0.3, 0.25, 0.2]
"""Opacity of the first, second, ... eigenvalue of one run."""

WIDTH, HEIGHT = 460, 270
PANEL_WIDTH, PANEL_HEIGHT = 215, 150

# The chart renderer carries Liberation Sans, so pictures are the same on a machine without fonts; labels keep to its
# glyphs (no subscripts, no double bars).
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

NOTE: dict[str, Any] = {"font": FONT, "fontSize": 11}
"""A word inside a chart."""

NAME: dict[str, Any] = {"fontSize": 12, "fontWeight": "normal", "offset": 6}
"""The name of a panel, above it."""

EXPECTED: dict[str, Any] = {"color": ALARM, "strokeDash": DASH, "strokeWidth": 1.4}
NEAR: dict[str, Any] = {"color": ALARM, "opacity": 0.09}
"""The line of a threshold or another expected value, and the shaded band around it."""

_TEXT = {"labelFont": FONT, "titleFont": FONT, "labelColor": INK, "titleColor": INK, "labelFontSize": 11}

CONFIG: dict[str, Any] = {
    "font": FONT,
    "padding": 8,
    "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT},
    "title": {
        "anchor": "start",
        "font": FONT,
        "fontSize": 14,
        "fontWeight": "bold",
        "color": INK,
        "offset": 12,
        "frame": "group",
    },
    "axis": _TEXT
    | {
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": GRID,
        "gridWidth": 0.8,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "tickSize": 4,
        "labelPadding": 4,
        "labelFlush": False,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False},
    "legend": _TEXT
    | {
        "title": None,
        "orient": "right",
        "offset": 16,
        "rowPadding": 5,
        "labelLimit": 260,
        "symbolSize": 70,
        "symbolLimit": len(PALETTE) * len(SHAPES),
        "symbolOpacity": 1,
        "symbolStrokeWidth": 2,
    },
    "concat": {"spacing": 22},
    "line": {"strokeJoin": "round", "strokeCap": "round"},
}


def colours(count: int) -> list[str]:
    """A colour each for ``count`` runs, in their order; few runs take colours far apart in lightness."""
    if count > len(PALETTE):
        return [PALETTE[i % len(PALETTE)] for i in range(count)]
    stride = min(2.0, (len(PALETTE) - 1) / max(count - 1, 1))
    return [PALETTE[round(i * stride)] for i in range(count)]


def shapes(count: int) -> list[str]:
    """A shape each for ``count`` runs, in their order."""
    return [SHAPES[i % len(SHAPES)] for i in range(count)]
