"""What the server sends: the page, the list as it changes, and panels with lines that are short and right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from board_runs import THRESHOLD, get, readings, write_run

from edgescope.board import Runs, make_app
from edgescope.board.app import FILES
from edgescope.board.panels import MOST_RUNS, make_panels
from edgescope.board.spectra import spectrum_panel
from edgescope.measures.reading import Reading
from edgescope.store import Record

HARMFUL = '<img src=x onerror="alert(1)">'


def told(runs: Runs, looks: int = 2) -> list[tuple[str, Any]]:
    """The events that a page gets, until the server has looked so many times for news."""
    left = iter(range(looks))
    asked = get(make_app(runs, stopped=lambda: next(left, None) is None), "/events")
    assert asked.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in asked.text.strip().split("\n\n"):
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_the_files_of_the_page_are_served_and_load_nothing_else(tmp_path: Path) -> None:
    app = make_app(Runs(tmp_path))
    for address, (_, kind) in FILES.items():
        asked = get(app, address)
        assert (asked.status, asked.headers["content-type"]) == (200, kind)
        names = ("http://www.w3.org/2000/svg", "https://vega.github.io/schema/vega/v6.json")  # which nobody opens
        text = asked.text.replace(names[0], "").replace(names[1], "")
        for outside in ("http:/", "https:/", "//cdn", "@import", "url("):
            assert outside not in text, (address, outside)
    assert "vegaEmbed" in get(app, "/vega.js").text


def test_the_list_is_told_and_what_changes(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [0])
    (tmp_path / HARMFUL.replace("/", "")).mkdir()
    write_run(tmp_path / HARMFUL.replace("/", "") / "b\x1b\n", [0])
    runs = Runs(tmp_path)
    (kind, look), (_, first) = told(runs)
    assert (kind, look["most"]) == ("look", MOST_RUNS)
    assert {row["state"] for row in first["rows"]} == {"not read yet"}
    runs.read_changed()
    names = [row["name"] for row in told(runs)[1][1]["rows"]]
    assert names == [f"{HARMFUL}/b\\x1b\\n", "a"]
    asked = get(
        make_app(runs),
        "/panels",
        query="run=a&run=" + "%3Cimg src=x onerror=%22alert(1)%22%3E/b%5Cx1b%5Cn".replace(" ", "%20"),
    )
    assert asked.status == 200
    assert asked.headers["content-type"] == "application/json"


def test_panels_of_one_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a", range(0, 100, 10), spectrum=True)
    runs = Runs(tmp_path)
    found = get(make_app(runs), "/panels", query="run=a").json()
    panels = {panel["name"]: panel for panel in found["panels"]}
    assert list(panels) == ["loss", "sharpness", "ratio", "norms", "spectrum", "last spectrum"]
    loss = {line["part"]: line for line in panels["loss"]["lines"]}
    assert (loss["train"]["dashed"], loss["test"]["dashed"]) == (False, True)
    assert loss["train"]["x"] == list(range(0, 100, 10))
    np.testing.assert_allclose(
        loss["train"]["y"], [readings(step)[0].values["train"] for step in range(0, 100, 10)], rtol=1e-6
    )
    *eigenvalues, threshold = panels["sharpness"]["lines"]
    assert [line["part"] for line in eigenvalues] == ["eigenvalue 1", "eigenvalue 2"]
    assert threshold["dashed"]
    assert set(threshold["y"]) == {THRESHOLD}
    assert "effective_sharpness" not in panels  # it is the sharpness, which is drawn
    assert panels["ratio"]["at"] == 1.0
    assert [line["part"] for line in panels["norms"]["lines"]] == ["l1", "l2"]


def test_panels_of_several_runs_have_a_line_each(tmp_path: Path) -> None:
    for name in "abc":
        write_run(tmp_path / name, range(0, 50, 10))
    panels = get(make_app(Runs(tmp_path)), "/panels", query="run=c&run=a&run=c").json()
    assert panels["runs"] == ["c", "a"]
    by_name = {panel["name"]: panel for panel in panels["panels"]}
    assert [line["run"] for line in by_name["ratio"]["lines"]] == [0, 1]
    assert {"norms/l1", "norms/l2"} <= set(by_name)


def test_a_range_of_steps_is_drawn_more_finely() -> None:
    steps = np.arange(100_000)
    table = pl.DataFrame({"step": steps, "measure": "ratio", "part": "", "value": np.sin(steps / 50.0)})
    (whole,), (part,) = (make_panels({"a": table}, {}, bounds) for bounds in ((None, None), (500, 900)))
    assert whole.lines[0].readings == 100_000
    assert len(whole.lines[0].x) <= 800
    assert (part.lines[0].x[0], part.lines[0].x[-1], len(part.lines[0].x)) == (500, 900, 401)
    assert make_panels({"a": table}, {}, (200_000, None)) == []


def test_adaptive_optimizers_have_thresholds_of_their_own() -> None:
    rows = [
        (step, name, "", value * (1 + step))
        for step in range(5)
        for name, value in (("effective_sharpness", 3.0), ("threshold", 9.0))
    ]
    rows += [(step, "sharpness", "1", 1.0 + step**2) for step in range(5)]
    table = pl.DataFrame(rows, schema=["step", "measure", "part", "value"], orient="row")
    sharpness, effective = make_panels({"a": table}, {})
    assert [line.part for line in sharpness.lines] == ["eigenvalue 1"]
    assert [(line.part, line.dashed) for line in effective.lines] == [
        ("effective sharpness", False),
        ("threshold", True),
    ]


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    with Record.create(tmp_path / "a") as record:
        for step, value in enumerate([1.0, float("nan"), float("inf"), 2.0]):
            record.append(step, [Reading("ratio", {"": value})])
    (panel,) = get(make_app(Runs(tmp_path)), "/panels", query="run=a").json()["panels"]
    assert panel["lines"][0]["y"] == [1.0, None, None, 2.0]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "0 runs to draw; expected 1 to 12"),
        ("&".join(f"run={n}" for n in range(13)), "13 runs to draw"),
        ("run=ab", "no run 'ab' on this page; try 'abc'"),
        ("run=abc&first=x", "first = 'x'; expected a step"),
        ("run=abc&last=1e9999", "last = '1e9999'"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(tmp_path: Path, query: str, says: str) -> None:
    write_run(tmp_path / "abc", [0])
    asked = get(make_app(Runs(tmp_path)), "/panels", query=query)
    assert asked.status == 400
    assert asked.text.startswith(says)
    assert asked.headers["content-type"].startswith("text/plain")


def test_a_spectrum_has_the_area_one() -> None:
    nodes, weights = np.array([0.0, 1.0, 10.0]), np.array([0.5, 0.3, 0.2])
    panel = spectrum_panel({2: (7, nodes, weights)})
    assert panel is not None
    (line,) = panel.lines
    assert (line.run, line.part, panel.logarithmic) == (2, "step 7", True)
    density = np.array([0.0 if value is None else value for value in line.y])
    assert np.trapezoid(density, line.x) == pytest.approx(1.0, abs=0.02)
    assert spectrum_panel({}) is None
    assert spectrum_panel({0: (1, np.array([np.nan]), np.array([1.0]))}) is None
