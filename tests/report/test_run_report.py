"""The report of runs that a monitor recorded: every number is drawn, with its optimizer, events and thresholds."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import edgescope as es
from edgescope.errors import EdgescopeWarning
from edgescope.figures import Figure
from edgescope.measures import Measure, Moment, Reading
from edgescope.report.run_report import report_runs, run_figures
from edgescope.report.run_report.thresholds import plain_thresholds
from edgescope.store import Record

X, Y = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
ODD = 'odd/<name> & "quotes"'


class Own(Measure):
    """A measure of a user with any name."""

    needs = "nothing"
    source = "me"

    def __init__(self, name: str, read: Callable[[Moment], Any], title: str = "", unit: str = "") -> None:
        self.name, self.title, self.unit, self._read = name, title, unit, read  # type: ignore[misc]

    def read(self, moment: Moment) -> Reading:
        found = self._read(moment)
        return found if isinstance(found, Reading) else Reading(self.name, found)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False))


def trained(
    folder: Path,
    optimizers: Iterable[torch.optim.Optimizer],
    model: nn.Module,
    measures: list[Any],
    steps: int = 10,
    after: Callable[[int], None] = lambda step: None,
    **options: Any,
) -> None:
    """A run with two evaluations, measured at every second step."""
    loss_fn, watched = es.supervised(F.cross_entropy), list(optimizers)
    parts = {"val": slice(0, 10), "held out": slice(10, 20)}
    evaluations = {name: es.Objective(model, loss_fn, (X[part], Y[part])) for name, part in parts.items()}
    objective = es.Objective(model, loss_fn, (X, Y))
    with (
        warnings.catch_warnings(action="ignore", category=EdgescopeWarning),
        es.Monitor(objective, watched, every=2, out=folder, measures=measures, evaluations=evaluations, **options) as m,
    ):
        for step in range(steps):
            for optimizer in watched:
                optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            for optimizer in watched:
                optimizer.step()
            after(step)
            m.step()


def figures_of(*folders: Path) -> dict[str, Figure]:
    records = {folder.name: Record.open(folder) for folder in folders}
    found = {figure.name: figure for figure in run_figures(records)}
    for record in records.values():
        record.close()
    return found


def texts(figure: Figure) -> set[str]:
    """The texts in the picture."""
    return set(re.findall(r">([^<>]+)</t(?:ext|span)>", figure.svg()))


def test_measures_of_any_name_and_all_evaluations_are_drawn(tmp_path: Path) -> None:
    model = network()
    measures = [
        *("loss", "accuracy", "hessian_trace:num_matvecs=6", "norms"),
        Own(ODD, lambda m: {"": 1.0 + m.step}, "My <title>", "furlong"),
        Own("two", lambda m: {"up": float(m.step), "down": -float(m.step)}),
        Own("layers of mine", lambda m: {f"block.{i}.w": 1.0 + i + m.step for i in range(70)}),
        Own("profile", lambda m: Reading("profile", {}, arrays={"": np.arange(9.0) + m.step})),
    ]
    trained(tmp_path, [torch.optim.SGD(model.parameters(), lr=0.1)], model, measures)
    figures = figures_of(tmp_path)
    assert {"train", "val", "held out"} <= texts(figures["loss"]) & texts(figures["accuracy"])
    assert {"l1", "l2", "distance"} <= texts(figures["norms"])
    assert {"0.weight", "2.weight"} <= texts(figures["norms-l2"])
    assert figures["hessian_trace"].title == "Trace of the Hessian"
    (odd,) = [figure for figure in figures.values() if ODD in figure.caption]
    assert odd.title == "My <title>"
    assert "in furlong" in odd.caption
    assert {"up", "down"} <= texts(figures["two"])
    assert "35 rows" in figures["layers-of-mine"].caption
    assert "block.0.w to block.1.w" in texts(figures["layers-of-mine"])
    assert {"0", "8"} <= texts(figures["profile"])
    page = report_runs(tmp_path).read_text()
    assert "My &lt;title&gt;" in page
    assert "My <title>" not in page


def test_the_report_says_in_which_regime_a_run_ends(tmp_path: Path) -> None:
    verdicts = {}
    for name, measures in (("first", ["loss", "sharpness", "threshold", "ratio"]), ("second", ["loss"])):
        model = network()
        trained(tmp_path / name, [torch.optim.SGD(model.parameters(), lr=0.1)], model, measures)
        with Record.open(tmp_path / name) as record:
            verdicts[name] = es.monitor.verdict_of(record)
    assert (verdicts["first"].regime, verdicts["second"].regime) == ("flow-aligned", "not known")
    assert verdicts["first"].sentences[0] in report_runs(tmp_path / "first", tmp_path).read_text(encoding="utf-8")
    both = report_runs(tmp_path).read_text(encoding="utf-8")
    assert all(f">{found.regime}<" in both for found in verdicts.values())


def test_the_threshold_under_weight_decay_is_that_of_the_eigenvalues() -> None:
    steps = range(4)
    raw = [1.0, 2.0, 3.0, 3.5]
    rows = []
    for run, effective in {
        "plain": raw,
        "decay": [value + 0.25 for value in raw],
        "adam": [10 * value for value in raw],
        "still": [2.0] * 4,
    }.items():
        own = [1.0] * 4 if run == "still" else raw
        for measure, part, values in (
            ("sharpness", "1", own),
            ("effective_sharpness", "", effective),
            ("threshold", "", [4.0] * 4),
        ):
            rows += [(run, step, measure, part, value) for step, value in zip(steps, values, strict=True)]
    table = pl.DataFrame(rows, schema=["run", "step", "measure", "part", "value"], orient="row")
    found = plain_thresholds(table)
    assert set(found.select("run", "threshold").unique().rows()) == {("plain", 4.0), ("decay", 3.75)}


def test_the_threshold_drawn_under_weight_decay_is_where_training_turns_unstable(tmp_path: Path) -> None:
    model, decay, lr = network(), 0.5, 0.2
    names = ["sharpness", "effective_sharpness", "threshold", "ratio"]
    trained(tmp_path, [torch.optim.SGD(model.parameters(), lr=lr, weight_decay=decay)], model, names)
    figures = figures_of(tmp_path)
    assert f"threshold {2 / lr - decay:g}" in texts(figures["eigenvalues"])
    assert "weight decay" in figures["eigenvalues"].caption
    assert f"threshold {2 / lr:g}" in texts(figures["effective-sharpness"])


def test_learning_rates_of_groups_that_change(tmp_path: Path) -> None:
    model = network()
    first, second = model.parameters()
    optimizer = torch.optim.AdamW([{"params": [first], "weight_decay": 0.25}, {"params": [second]}], lr=0.1)

    def schedule(step: int) -> None:
        optimizer.param_groups[1]["lr"] = 0.1 if step < 4 else 0.01

    trained(tmp_path, [optimizer], model, ["learning_rate"], after=schedule)
    figure = figures_of(tmp_path)["learning-rate"]
    assert {"group 0", "group 1"} <= texts(figure)
    points = json.dumps(figure.chart.to_dict(validate=False)).replace("\\", "")
    steps = {float(step) for step in re.findall(r'"run":"group 1","step":([\d.]+),', points)}
    assert steps == {0, 2, 4, 6, 8, 10}  # also those where the groups had one rate
    page = report_runs(tmp_path).read_text()
    assert "weight_decay 0.25 in group 0,<wbr> 0.01 in group 1" in page


def test_a_learning_rate_that_never_changes_is_in_the_table_alone(tmp_path: Path) -> None:
    model = network()
    trained(tmp_path, [torch.optim.SGD(model.parameters(), lr=0.125, momentum=0.5)], model, ["learning_rate", "loss"])
    assert set(figures_of(tmp_path)) == {"loss"}
    page = report_runs(tmp_path).read_text()
    assert "SGD (momentum 0.5)" in page
    assert re.search(r">0\.125</td>", page)


def test_several_optimizers_have_curves_of_their_own(tmp_path: Path) -> None:
    model = network()
    first, second = model.parameters()
    optimizers = [torch.optim.Muon([first], lr=0.01), torch.optim.AdamW([second], lr=0.02)]
    trained(tmp_path, optimizers, model, ["effective_sharpness", "threshold", "ratio", "learning_rate"])
    figures = figures_of(tmp_path)
    assert {"Muon", "AdamW", "all optimizers together"} <= texts(figures["ratio"])
    assert {"Muon", "AdamW"} <= texts(figures["learning-rate"])
    assert any(text.startswith("Muon, threshold") for text in texts(figures["effective-sharpness"]))


def test_events_are_marked_and_sessions_are_noted(tmp_path: Path) -> None:
    def read(moment: Moment) -> dict[str, float]:
        if moment.step == 4:
            raise RuntimeError("no luck")
        return {"": math.nan if moment.step == 8 else 1.0 + moment.step}

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained(tmp_path, [optimizer], model, [Own("own", read)])
    trained(tmp_path, [optimizer], model, [Own("own", read)], steps=4, resume=10)
    figure = figures_of(tmp_path)["own"]
    told = "(a) a failed measure at step 4; (b) a value that is not finite at step 8; (c) resumed at step 10"
    assert told in figure.caption
    assert {"a", "b", "c", "circles on the axis: no finite value there"} <= texts(figure)
    page = report_runs(tmp_path).read_text()
    assert "continued from step 10" in page
    assert "no luck" in page


def test_seconds_of_runs_that_were_not_closed_are_not_made_up(tmp_path: Path) -> None:
    for name in ("closed", "open"):
        model = network()
        trained(tmp_path / name, [torch.optim.SGD(model.parameters(), lr=0.1)], model, ["loss"])
    page = report_runs(tmp_path).read_text()
    assert "seconds of all runs" in page
    with Record.open(tmp_path / "open") as record:
        record.set_info("seconds", None)
    page = report_runs(tmp_path).read_text()
    assert "seconds of 1 of 2 runs" in page


def test_several_runs_are_lines_and_parts_are_panels(tmp_path: Path) -> None:
    folders = []
    for lr in (0.1, 0.2):
        model = network()
        folders.append(tmp_path / f"lr {lr}")
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        trained(folders[-1], [optimizer], model, ["loss", "accuracy", "sharpness", Own("own", lambda m: {"": 1.0})])
    figures = figures_of(*folders)
    for name in ("loss", "accuracy"):
        assert {"lr 0.1", "lr 0.2", "train", "val", "held out"} <= texts(figures[name])
    assert {"lr 0.1", "lr 0.2"} <= texts(figures["own"]) & texts(figures["layers"])


@pytest.mark.parametrize("count", [1, 30])
def test_a_run_of_one_step_and_one_of_many_measures(tmp_path: Path, count: int) -> None:
    model = network()
    measures = [Own(f"own {i}", lambda m, i=i: {"": 1.0 + i + m.step}) for i in range(count)]
    names = ["loss", "sharpness", "effective_sharpness", "threshold", "ratio"]
    trained(tmp_path, [torch.optim.Adam(model.parameters(), lr=0.1)], model, [*names, *measures], steps=1)
    figures = figures_of(tmp_path)
    assert len(figures) <= 28
    assert ("further" in figures) == (count > 20)
    shown = set().union(*(texts(figure) | {figure.title} for figure in figures.values()))
    assert {f"own {i}" for i in range(count)} <= shown


def test_the_direction_of_an_adaptive_optimizer_is_drawn_by_layers_with_their_names(tmp_path: Path) -> None:
    model = network()
    trained(tmp_path / "run", [torch.optim.Adam(model.parameters())], model, ["sharpness", "effective_sharpness"])
    figures = figures_of(tmp_path / "run")
    layers = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    for name, title in (("layers", "The sharpest direction, by layer"), ("effective-layers", "for the optimizer")):
        assert title in figures[name].title
        assert layers <= texts(figures[name])
    assert not any("effective_sharpness: layers" in figure.title for figure in figures.values())
