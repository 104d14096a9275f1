"""The chart of a sharpness between two bounds."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from edgescope.errors import InputError
from edgescope.figures import Figure, bracket_curves


def tables(runs: int = 2) -> tuple[pl.DataFrame, pl.DataFrame]:
    names, steps = [f"run {i}" for i in range(runs)], np.arange(0, 60, 10)
    upper = np.where(steps % 20 == 0, 1.5, np.nan)
    sharpness = [pl.DataFrame({"run": n, "step": steps, "lower": 0.9 + steps / 300, "upper": upper}) for n in names]
    smoothness = [pl.DataFrame({"run": n, "step": np.arange(60), "value": np.sin(np.arange(60))}) for n in names]
    return pl.concat(sharpness), pl.concat(smoothness)


def test_every_run_has_its_panel_and_the_shade_spans_readings_without_a_certificate() -> None:
    chart = bracket_curves(*tables(), columns=2)
    specification = chart.to_dict()
    assert [panel["title"]["text"] for panel in specification["concat"]] == ["run 0", "run 1"]
    data = [json.loads(rows) for rows in specification["datasets"].values()]
    shade = next(rows for rows in data if "upper" in rows[0] and None not in [row["upper"] for row in rows])
    assert [row["step"] for row in shade] == [0, 10, 20, 30, 40]  # the last reading has none, and none after it
    assert {round(row["upper"], 9) for row in shade} == {1.5}
    assert "<svg" in Figure("brackets", "Brackets", "A caption.", chart).svg()


def test_a_wild_step_leaves_the_picture_and_tables_that_cannot_be_drawn_are_one_line() -> None:
    sharpness, smoothness = tables(1)
    wild = smoothness.with_columns(value=pl.when(pl.col("step") == 30).then(1e6).otherwise("value"))
    panel = bracket_curves(sharpness, wild, columns=1).to_dict()["concat"][0]
    domains = [
        layer["encoding"]["y"]["scale"]["domain"] for layer in panel["layer"] if "scale" in layer["encoding"]["y"]
    ]
    assert max(high for _, high in domains) < 4
    with pytest.raises(InputError, match="no column lower"):
        bracket_curves(sharpness.drop("lower"), smoothness)
    with pytest.raises(InputError, match="no finite value"):
        bracket_curves(sharpness.with_columns(lower=pl.lit(np.nan)), smoothness)
