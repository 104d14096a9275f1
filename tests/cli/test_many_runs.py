"""Reports of many runs and of long ones: of a bounded size, with the extremes, and saying what is left out."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgescope.measures.reading import Reading
from edgescope.report.run_report import MOST_RUNS, pages, run_figures
from edgescope.report.run_report.arrays import spectra
from edgescope.store import Record
from edgescope.store.appending import cells_of, write_step

REPORT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from edgescope.report.run_report import report_runs
print(report_runs(Path(sys.argv[1])))
"""

ADVICE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from edgescope.cli import main
sys.exit(main(["advise", sys.argv[1], "--json"]))
"""


def write(folder: Path, readings: list[list[Reading]]) -> None:
    """A step each, in one transaction."""
    with Record.create(folder, config={"lr": 0.1}) as record, record._writing() as work:
        for step, found in enumerate(readings):
            write_step(work, step, cells_of(step, found), add=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_report_of_more_runs_than_files_and_colours(tmp_path: Path) -> None:
    for kind, height in (("usual", 1.0), ("high", 9.0)):
        write(tmp_path / kind, [[Reading("ratio", {"": height * step})] for step in range(3)])
    names = [f"run-{number:03d}" for number in range(90)]
    for name in names:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        kind = "high" if name == "run-061" else "usual"
        (folder / "record.sqlite").write_bytes((tmp_path / kind / "record.sqlite").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(tmp_path / "runs")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs" / "report.html").read_text()
    assert f"Figures show {MOST_RUNS} of 90 runs" in page
    still = page.split("<script")[0]
    picture = still[still.index("<svg") : still.rindex("</svg>")]
    drawn = {name for name in names if f">{name}<" in picture}
    assert len(drawn) == MOST_RUNS
    assert {"run-000", "run-061"} <= drawn
    tables = page.replace(picture, "")
    assert all(f">{name}<" in tables for name in names)
    advice = subprocess.run(
        [sys.executable, "-c", ADVICE, str(tmp_path / "runs")], capture_output=True, text=True, check=False
    )
    assert advice.returncode == 0, advice.stderr
    assert '"topic": "regimes"' in advice.stdout


@settings(max_examples=50)
@given(
    runs=st.integers(MOST_RUNS + 1, 300),
    spread=st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6),
    quantities=st.integers(0, 60),
)
def test_the_runs_that_are_drawn(runs: int, spread: list[float], quantities: int) -> None:
    names = [f"run-{number}" for number in range(runs)]
    rows = [
        (names[(7 * place + 3 * quantity) % runs], f"measure-{quantity}", "", value - 1, value + 1)
        for quantity in range(quantities)
        for place, value in enumerate(spread)
    ]
    kinds = {"run": pl.String, "measure": pl.String, "part": pl.String, "low": pl.Float64, "high": pl.Float64}
    ends = pl.DataFrame(rows, schema=kinds, orient="row")
    chosen = pages._chosen(names, ends)
    assert len(chosen) == len(set(chosen)) == MOST_RUNS
    assert chosen == [name for name in names if name in chosen]
    assert names[0] in chosen
    if quantities <= 20:
        for quantity in range(quantities):
            of = ends.filter(measure=f"measure-{quantity}", run=pl.col("run"))
            assert set(of.filter(pl.col("low") == pl.col("low").min())["run"]) & set(chosen)
            assert set(of.filter(pl.col("high") == pl.col("high").max())["run"]) & set(chosen)


def test_the_pictures_of_a_long_record_are_small_and_say_that_they_are_thinned(tmp_path: Path) -> None:
    def at(step: int) -> list[Reading]:
        wave = math.sin(step / 50) + (5.0 if step == 7_777 else 0.0)
        return [
            Reading("sharpness", {"1": 20 + wave}),
            Reading("effective_sharpness", {"": 20 + wave}),
            Reading("threshold", {"": 20.0 + math.cos(step / 70) - (6.0 if step == 3_333 else 0.0)}),
        ]

    write(tmp_path, [at(step) for step in range(20_000)])
    with Record.open(tmp_path) as record:
        figures = {figure.name: figure for figure in run_figures({"long": record})}
    svg = figures["eigenvalues"].svg()
    assert len(svg) < 100_000
    assert "mean and range of up to 84 points" in svg
    drawn = figures["eigenvalues"].chart.to_dict(validate=False)
    text = str(drawn)
    assert f"{20 + math.sin(7_777 / 50) + 5}"[:12] in text
    assert f"{20 + math.cos(3_333 / 70) - 6}"[:12] in text


def test_of_many_spectra_some_are_drawn(tmp_path: Path) -> None:
    import numpy as np

    def at(step: int) -> list[Reading]:
        arrays = {"nodes": np.arange(4.0) + step, "weights": np.ones(4) / 4}
        return [Reading("spectrum", {"trace": float(step)}, arrays=arrays)]

    write(tmp_path, [at(step) for step in range(100)])
    with Record.open(tmp_path) as record:
        table, taken = spectra(record, 24)
        assert taken == 100
        moments = table["moment"].unique(maintain_order=True).to_list()
        assert len(moments) == 24
        assert (moments[0], moments[-1]) == ("step 0", "step 99")
        assert spectra(record)[0]["moment"].n_unique() == 100
        (figure,) = (figure for figure in run_figures({"long": record}) if figure.name == "spectrum-1")
        assert "24 of 100 steps are shown" in figure.caption
