"""The figures of blocks and of a spike in the report of a run, from records made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from edgescope.figures import Figure
from edgescope.figures.heat_map import MOST_ROWS
from edgescope.measures import Reading
from edgescope.monitor import SpikeEvent
from edgescope.report.run_report import run_figures
from edgescope.report.run_report.blocks import block_figures
from edgescope.report.run_report.spikes import AFTER, BEFORE, spike_figure
from edgescope.store import Record


def scalars(measure: str, values: dict[str, list[float]], run: str = "a") -> pl.DataFrame:
    rows = [(run, step, measure, part, v) for part, series in values.items() for step, v in enumerate(series)]
    return pl.DataFrame(rows, schema=["run", "step", "measure", "part", "value"], orient="row")


def texts(part: Any) -> Iterator[Any]:
    """All data inside of a specification."""
    if isinstance(part, dict):
        if ("values" in part and "format" in part) or isinstance(part.get("values"), str):
            yield part["values"]
        yield from part.get("datasets", {}).values()
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from texts(inner)


def data_of(figure: Figure) -> list[dict[str, Any]]:
    """The rows of all data of a picture."""
    found = figure.chart.to_dict(validate=False)
    return [row for text in texts(found) for row in (json.loads(text) if isinstance(text, str) else text)]


def cells(table: pl.DataFrame, names: tuple[str, ...] = ("a",)) -> dict[str, list[tuple[str, float]]]:
    """Row and value of all rectangles of each figure."""
    found = {}
    for figure, _ in block_figures(table, names):
        found[figure.name] = [(row["row"], row["value"]) for row in data_of(figure) if "row" in row]
    return found


def test_blocks_are_rows_with_their_values() -> None:
    mass = scalars("block_sharpness", {"mass/in": [0.25, 0.5], "mass/out": [0.75, 0.5], "top/in": [1.0, 2.0]})
    assert cells(mass) == {"blocks-mass": [("in", 0.25), ("in", 0.5), ("out", 0.75), ("out", 0.5)]}


def test_shares_of_many_blocks_are_added_up_and_eigenvalues_are_not() -> None:
    count = 2 * MOST_ROWS
    shares = scalars("headroom", {f"share/{k}": [1 / count] * 2 for k in range(count)})
    tops = scalars("block_sharpness", {f"top/{k}": [float(k + 1)] * 2 for k in range(count)})
    found = cells(pl.concat([shares, tops]))
    assert {value for _, value in found["blocks-headroom"]} == {2 / count}
    assert max(value for _, value in found["blocks-sharpness"]) == count
    (figure, shown), *_ = block_figures(shares, ["a"])
    assert f"{count} blocks are joined to {MOST_ROWS} rows, which have their sums" in figure.caption
    assert shown.height == count


def test_one_block_or_one_step_is_no_heat_map() -> None:
    assert not cells(scalars("block_sharpness", {"top/in": [1.0, 2.0]}))
    assert not cells(scalars("block_sharpness", {"top/in": [1.0], "top/out": [1.0]}))


def spiking(folder: Path, spikes: dict[int, float], warnings: tuple[int, ...], norms: bool = True) -> Record:
    """A run of 2,000 steps whose loss is 1, and 5 at its spikes."""
    record = Record.create(folder, config={})
    for step in range(2000):
        readings = [Reading("training_loss", {"": 5.0 if step in spikes else 1.0})]
        if norms:
            readings.append(Reading("update_norm", {"": 1.0, "over_median": 3.0 if step in warnings else 1.0}))
        record.append(step, readings)
        if step in warnings:
            record.note(step, "warning", SpikeEvent("warning", step, 3.0, 1.5, curvature=1.1).text)
        if step in spikes:
            record.note(step, "spike", SpikeEvent("spike", step, spikes[step], 1.2).text)
    record.set_status("finished")
    return record


def test_the_largest_spike_is_drawn_with_what_is_around_it(tmp_path: Path) -> None:
    record = spiking(tmp_path / "a", {300: 2.0, 1200: 5.0}, (290, 1195))
    figure = spike_figure("a", record)
    assert figure is not None
    assert "the largest of 2 spikes, at step 1,200, where the loss was 5 times" in figure.caption
    assert "2 warnings in the whole run" in figure.caption
    steps = [row["step"] for row in data_of(figure) if "step" in row]
    assert (min(steps), max(steps)) == (1200 - BEFORE, 1200 + AFTER)
    assert "spike" in {found.name for found in run_figures({"a": record})}


def test_without_norms_the_loss_is_drawn_alone_and_without_events_nothing(tmp_path: Path) -> None:
    figure = spike_figure("a", spiking(tmp_path / "a", {300: 2.0}, (290,), norms=False))
    assert figure is not None
    assert "median" not in figure.caption
    assert spike_figure("b", spiking(tmp_path / "b", {}, ())) is None


def test_events_of_the_same_name_in_another_form_are_no_spikes(tmp_path: Path) -> None:
    record = spiking(tmp_path / "a", {}, ())
    for text in ("the loss went up", json.dumps({"block": ""}), json.dumps(3)):
        record.note(5, "spike", text)
    assert spike_figure("a", record) is None
