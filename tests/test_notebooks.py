"""What monitors, records, results and sweeps show of themselves in a notebook: no script, no address, only text."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import edgescope as es
from edgescope.errors import InputError
from edgescope.notebooks import MOST_ENTRIES, table_html, text_of
from edgescope.sweep.outcomes import Outcomes
from edgescope.sweep.task import Outcome

HARMFUL = '<script src="https://evil.example/x.js"></script>\x1b'
PASSIVE = {
    "svg",
    "g",
    "path",
    "text",
    "rect",
    "line",
    "defs",
    "clippath",
    "div",
    "strong",
    "table",
    "thead",
    "tbody",
    "tr",
}
PASSIVE |= {"th", "td", "p", "figure", "figcaption", "lineargradient", "stop", "style", "title", "tspan", "circle"}


class Elements(html.parser.HTMLParser):
    """The elements of a text, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name not in ("src", "href", "xlink:href"), (name, value)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def shown(thing: object) -> Elements:
    """The HTML of an object, all of whose elements are passive and ask for nothing."""
    text = thing._repr_html_()  # type: ignore[attr-defined]
    found = Elements(text)
    assert found.names <= PASSIVE, found.names - PASSIVE
    assert not re.search(r"url\((?!['\"]?#)|@import", text)
    return found


def make_monitor(out: Path | None = None, steps: int = 12) -> es.Monitor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x, y = torch.randn(16, 3, dtype=torch.float64), torch.randn(16, 1, dtype=torch.float64)
    objective = es.Objective(model, es.supervised(nn.functional.mse_loss), (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    monitor = es.Monitor(objective, optimizer, every=4, out=out, config={"name": HARMFUL})
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        monitor.step()
    return monitor


def test_a_monitor_shows_its_last_readings_and_its_verdict() -> None:
    monitor = make_monitor()
    cells = shown(monitor).cells
    assert "Monitor after 12 steps" in cells
    assert {"sharpness/1", "ratio", "loss/train"} <= set(cells)
    assert text_of(monitor.value("ratio")) in cells
    assert any(cell.startswith(monitor.verdict().regime) for cell in cells)
    monitor.close()
    assert shown(monitor).cells == cells


def test_a_record_shows_its_last_values_and_text_as_text(tmp_path: Path) -> None:
    make_monitor(tmp_path / "a").close()
    record = es.Record.open(tmp_path / "a")
    found = shown(record)
    assert any("finished, last step 12" in cell for cell in found.cells)
    assert any("\\x1b" in cell for cell in found.cells)
    assert text_of(float(record.series("ratio")[1][-1])) in found.cells
    record.close()
    assert any("the record is closed" in cell for cell in shown(record).cells)


def test_a_plot_is_a_still_picture_that_needs_no_network(tmp_path: Path) -> None:
    monitor = make_monitor()
    plot = monitor.plot()
    assert [figure.name for figure in plot.figures] == ["loss", "eigenvalues", "ratio"]
    found = shown(plot)
    assert "svg" in found.names
    assert "script" not in found.names
    assert "<svg" in plot.figures[0]._repr_svg_()
    assert [figure.name for figure in monitor.plot("gradient_norm").figures] == ["gradient_norm"]
    with pytest.raises(InputError, match="no measure 'nothing' in the record; expected one of"):
        monitor.plot("nothing")
    saved = plot.save(tmp_path / "plots")
    assert {path.suffix for path in saved} == {".svg", ".png", ".pdf"}
    assert all(path.stat().st_size for path in saved)


def test_a_report_is_that_of_the_command(tmp_path: Path) -> None:
    with make_monitor(tmp_path / "a") as monitor:
        during = monitor.report().read_text(encoding="utf-8")
    assert monitor.report() == tmp_path / "a" / "report.html"
    after = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "Training run a" in during
    assert "Sharpness over threshold" in after
    assert [figure.name for figure in monitor.plot().figures] == ["loss", "eigenvalues", "ratio"]


def test_a_monitor_without_a_folder_needs_one_for_a_report(tmp_path: Path) -> None:
    monitor = make_monitor()
    with pytest.raises(InputError, match=r"in memory needs a folder; try report\('reports/mine'\)"):
        monitor.report()
    assert monitor.report(tmp_path).exists()


def test_a_closed_monitor_is_drawn_also_from_memory() -> None:
    monitor = make_monitor()
    before = [figure.chart.to_dict() for figure in monitor.plot().figures]
    monitor.close()
    assert [figure.chart.to_dict() for figure in monitor.plot().figures] == before
    record = es.Record.in_memory()
    with es.Monitor(monitor.objective, None, measures=["gradient_norm"], record=record) as other:
        pass
    record.close()
    with pytest.raises(InputError, match=r"closed, and its record was kept in memory; try this before close\(\)"):
        other.plot()


def test_a_run_without_readings_has_nothing_to_plot() -> None:
    record = es.Record.in_memory()
    with es.Monitor(make_monitor().objective, None, measures=["gradient_norm"], record=record) as monitor:
        with pytest.raises(InputError, match="nothing to plot yet"):
            monitor.plot()
        assert shown(monitor).cells


def test_results_are_tables_of_their_fields() -> None:
    monitor = make_monitor()
    pairs = es.top_eigenpairs(monitor.objective, k=2)
    cells = shown(pairs).cells
    assert cells[0] == "Eigenpairs"
    assert text_of(pairs.values.tolist()) in cells
    assert "Tensor of shape (21, 2), float64" in cells
    trace = es.measure(monitor.objective, "hessian_trace")
    assert text_of(trace.values) in shown(trace).cells
    assert shown(monitor.forecast()).cells[0] == "Forecast"


def test_a_sweep_is_a_dict_that_shows_a_row_for_each_run(tmp_path: Path) -> None:
    outcomes = Outcomes(a=Outcome("a", tmp_path, "finished", 1.234), b=Outcome("b", tmp_path, "failed", 2.0, HARMFUL))
    cells = shown(outcomes).cells
    assert {"Sweep of 2 runs", "a", "finished", "1.23", "failed"} <= set(cells)
    assert dict(outcomes) == outcomes


def test_texts_in_cells() -> None:
    assert text_of(1 / 3) == "0.333333"
    assert text_of([1, 2.5]) == "1, 2.5"
    assert text_of(list(range(20))) == "0, 1, 2, 3, 4, 5, 6, 7, … (20 in all)"
    assert len(range(20)) > MOST_ENTRIES
    assert text_of({"": 1.0, "b": True}) == "value: 1, b: True"
    found = Elements(table_html(HARMFUL, ("<b>",), [(HARMFUL,)], HARMFUL))
    assert found.names <= PASSIVE
    assert "".join(found.cells).count('<script src="https://evil.example/x.js"></script>\\x1b') == 3
