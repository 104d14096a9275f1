"""The charts of many measures and of spectra over time draw what their tables hold, and refuse what they cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import Figure, correlation_dots, scatter_panels, spectral_ridge, stacked_panels
from edgescope.figures.chart import Chart


def spectra(moments: int = 3) -> pl.DataFrame:
    """Half of the mass at 0, half at an eigenvalue that grows by 10 a moment."""
    rows = [(f"step {m}", node, 0.5) for m in range(moments) for node in (0.0, 10.0 * (m + 1))]
    return pl.DataFrame(rows, schema=["moment", "node", "weight"], orient="row")


def correlated() -> pl.DataFrame:
    rows = [(m, s, t, -0.3, 0.25, 0.6) for m in ("SD", "trace") for s in ("tau", "psi") for t in ("loss", "accuracy")]
    return pl.DataFrame(rows, schema=["measure", "statistic", "target", "low", "middle", "high"], orient="row")


def scattered() -> pl.DataFrame:
    rows = [(m, lr * b, lr, lr, b) for m in ("SD", "trace") for lr in (0.1, 0.2) for b in (16, 32)]
    return pl.DataFrame(rows, schema=["measure", "value", "target", "learning rate", "batch"], orient="row")


def paneled() -> pl.DataFrame:
    rows = [(p, "run", step, float(step)) for p in ("SD", "trace") for step in range(5)]
    return pl.DataFrame(rows, schema=["panel", "run", "step", "value"], orient="row")


def data_of(chart: Chart) -> list[dict]:
    """Every table inside a chart, which it keeps as text."""
    found = []

    def walk(thing: object) -> None:
        if isinstance(thing, str) and thing.startswith("[{"):
            found.append(json.loads(thing))
        for child in thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ():
            walk(child)

    walk(chart.to_dict(validate=False))
    return found


CHARTS: dict[str, tuple[Callable[..., Chart], pl.DataFrame, dict]] = {
    "ridge": (spectral_ridge, spectra(), {"threshold": 15.0}),
    "correlations": (correlation_dots, correlated(), {}),
    "scatter": (scatter_panels, scattered(), {"y_title": "gap"}),
    "panels": (stacked_panels, paneled(), {"marks": {"jump": 2}}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_the_picture_is_drawn(name: str) -> None:
    draw, table, options = CHARTS[name]
    svg = Figure(name, "A title", "A caption.", draw(table, **options)).svg()
    assert svg.startswith("<svg")
    assert "NaN" not in svg
    for word in {"ridge": ["step 0", "step 2"], "correlations": ["SD", "trace", "+0.25"]}.get(name, ["SD", "trace"]):
        assert re.search(rf">{re.escape(word)}<", svg), word


def test_a_ridge_has_a_row_a_moment_with_its_peak_where_the_eigenvalue_is() -> None:
    tables = [t for t in data_of(spectral_ridge(spectra(), threshold=15.0, width=0.5)) if t and "base" in t[0]]
    for moment, base in ((0, 2.0), (1, 1.0), (2, 0.0)):
        rows = [r for t in tables for r in t if r["base"] == base]
        node = np.array([r["node"] for r in rows])
        height = np.array([r["height"] for r in rows]) - base
        away = np.abs(node) > 5
        assert node[away][height[away].argmax()] == pytest.approx(10.0 * (moment + 1), abs=0.2)
        assert height.min() == pytest.approx(0.0)
        assert 1.0 < height.max() <= 1.6
    beyond = [t for t in tables if min(r["node"] for r in t) > 14.9]
    assert len(beyond) == 3  # what lies beyond the threshold is filled in each row


@pytest.mark.parametrize("name", CHARTS)
def test_what_cannot_be_drawn_is_one_line(name: str) -> None:
    draw, table, options = CHARTS[name]
    number = next(column for column in ("middle", "value", "node") if column in table.columns)
    for bad in (table.clear(), table.drop(number), table.with_columns(pl.lit(float("nan")).alias(number))):
        with pytest.raises(InputError) as caught:
            draw(bad, **options)
        assert "\n" not in str(caught.value)


def test_a_smoothing_width_is_positive() -> None:
    with pytest.raises(InputError, match="width of -1"):
        spectral_ridge(spectra(), width=-1)
