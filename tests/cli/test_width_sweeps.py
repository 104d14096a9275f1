"""``edgescope sweep --widths``: the learning rates at several widths, and whether the best one transfers."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from said import Run

from edgescope.errors import InputError
from edgescope.figures import Figure, width_panels
from edgescope.store import Record
from edgescope.training.own import made_by
from edgescope.training.width_transfer import WidthTransfer, at_width, width_of

OWN = """
import torch
import edgescope as es

def make_run(width=3, scale=1.0):
    data = es.DATA.build("digits:train=40,test=20").load()
    layers = (torch.nn.Linear(64, width), torch.nn.Tanh(), torch.nn.Linear(width, 10))
    model = torch.nn.Sequential(torch.nn.Flatten(), *layers)
    test = (data.test_inputs, data.test_targets)
    return model, es.supervised(es.losses.half_mse), (data.inputs, data.targets), test

def fixed():
    return make_run()
"""
QUICK = ("--threads", 1, "--path", "kept", "--jobs", 1, "--steps", 30, "--equal-steps", "--out", "s")


@pytest.fixture
def own(here: Path) -> str:
    (here / "own_widths.py").write_text(OWN)
    return "own_widths"


def test_a_function_at_three_widths(run: Run, own: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def page(out: Path, figures: list[Figure], **_: object) -> Path:
        drawn.extend(figure.name for figure in figures)
        return out / "report.html"

    monkeypatch.setattr("edgescope.cli.sweep_report.write_report", page)
    monkeypatch.setattr("edgescope.cli.sweep_report.run_figures", lambda *_, **__: [])
    command = ("sweep", f"{own}:make_run:scale=2.0", "--lr", "0.02,0.2", "--widths", "8,2,4", *QUICK)
    said = run(*command)
    assert said.code == 0, said
    sharpness, losses = {}, {}
    for width in (2, 4, 8):
        for lr in (0.02, 0.2):
            with Record.open(here / f"s/runs/width{width}-lr{lr:g}") as record:
                assert record.config["function"] == f"{own}:make_run:scale=2.0,width={width}"
                assert record.info["steps"] == 30
                sharpness[width, lr] = record.series("sharpness", "1")[1][-1]
                losses[width, lr] = record.series("loss", "test")[1][-1]
    for (width, lr), value in sharpness.items():  # that of plain gradient descent is the effective one
        row = re.search(rf"^ *{width} +{lr:g} +(\S+) +(\S+) ", said.out, re.MULTILINE)
        assert row, said.out
        assert float(row[1]) == pytest.approx(value, rel=1e-2)
        assert float(row[2]) == pytest.approx(losses[width, lr], rel=1e-3)
    for width in (2, 4, 8):
        best = min((0.02, 0.2), key=lambda lr: losses[width, lr])
        assert re.search(rf"^width {width}: best test loss \S+ at learning rate {best:g};", said.out, re.MULTILINE)
    assert "the best learning rate transfers from width 2 to 8: 0.2" in said.out
    assert "effective sharpness at learning rate 0.2 after equally many steps: " in said.out
    assert run("report", "s").out == said.out
    assert drawn == ["widths"] * 2
    other = (*command[:5], "2,4", *command[6:], "--resume")
    assert "(widths = (2, 4, 8) there, (2, 4) here)" in run(*other).refusal()


def test_refusals(run: Run, own: str, here: Path) -> None:
    for arguments, words in {
        (f"{own}:fixed", "--lr", "0.1", "--widths", "2,4"): "function 'own_widths:fixed:width=2' cannot be called",
        (f"{own}:make_run", "--lr", "0.1", "--widths", "2"): "widths '2'; expected two or more different ones",
        (f"{own}:make_run", "--lr", "0.1", "--widths", "2,2"): "widths '2,2'",
        (f"{own}:make_run", "--lr", "0.1", "--widths", "2,x"): "widths '2,x'",
        (f"{own}:make_run", "--widths", "2,4"): "--widths without --lr",
        (f"{own}:make_run:width=3", "--lr", "0.1", "--widths", "2,4"): "one without the argument width",
        ("--model", "cnn", "--lr", "0.1", "--widths", "2,4"): "several widths of the model 'cnn'",
    }.items():
        assert words in run("sweep", *arguments, *QUICK).refusal(), arguments
    short = [word for word in QUICK if word != "--equal-steps"]
    said = run("sweep", f"{own}:make_run", "--lr", "0.1", "--widths", "2,4", *short)
    assert "--widths without --equal-steps" in said.refusal()
    assert not (here / "s").exists()


def test_the_width_of_models_by_name() -> None:
    for model, expected in {
        "mlp": "mlp:widths=7x7",
        "mlp:3x3x3,activation=relu": "mlp:widths=7x7x7,activation=relu",
        "mlp:activation=relu,widths=3": "mlp:widths=7,activation=relu",
        "gpt:width=16,heads=1": "gpt:width=7,heads=1",
    }.items():
        assert at_width(model, None, 7) == {"model": expected}
        assert width_of(at_width(model, None, 7)) == 7
    assert width_of({"model": "mlp"}) == 200
    assert width_of({"model": "mlp:widths=2x3"}) is None
    assert width_of({"model": "cnn"}) is None
    with pytest.raises(InputError, match="without layers"):
        at_width("mlp:widths=", None, 7)


def test_arguments_of_functions(own: str) -> None:
    made = made_by(f"{own}:make_run:width=5", 0)
    assert [p.shape[0] for p in made.model.parameters()] == [5, 5, 10, 10]
    for name in ("make_run:width", "make_run:width=", "make_run:width=2,width=3", "make_run:2=3"):
        with pytest.raises(InputError, match="expected module:function, or module:function:argument=value"):
            made_by(f"{own}:{name}", 0)
    with pytest.raises(InputError, match="unexpected keyword argument 'depth'"):
        made_by(f"{own}:make_run:depth=2", 0)


def test_intervals_that_overlap() -> None:
    lr = [0.1, 0.2, 0.4]
    columns = {"lr": lr * 2, "reached": [True] * 6, "diverged": [False] * 6, "width": [8] * 3 + [16] * 3}
    one = WidthTransfer.of(pl.DataFrame(columns | {"test_loss": [1.0, 1.001, 2.0, 2.0, 1.0, 1.001]}), "test_loss")
    assert (one.transfers, one.low, one.high) == (True, 0.2, 0.2)
    other = WidthTransfer.of(pl.DataFrame(columns | {"test_loss": [1.0, 1.1, 2.0, 2.0, 1.0, 1.001]}), "test_loss")
    assert (other.transfers, other.low) == (False, None)
    lost = pl.DataFrame(columns | {"test_loss": [1.0] * 6, "diverged": [True] * 3 + [False] * 3})
    assert WidthTransfer.of(lost, "test_loss").transfers is None


def test_the_figure_has_a_line_for_each_width_and_each_rate() -> None:
    columns = {"width": [8, 8, 16, 16], "lr": [0.1, 0.2, 0.1, 0.2], "loss": [1.0, 0.9, 0.8, None]}
    drawn = width_panels(pl.DataFrame(columns | {"sharpness": [5.0, 4.0, 10.0, None]})).to_dict()
    above, below = (panel["layer"][0]["encoding"] for panel in drawn["vconcat"])
    assert (above["x"]["field"], above["y"]["field"]) == ("lr", "loss")
    assert above["color"]["scale"]["domain"] == ["width 8", "width 16"]
    assert (below["x"]["field"], below["y"]["field"]) == ("width", "sharpness")
    assert below["color"]["scale"]["domain"] == ["η 0.1", "η 0.2"]
    nothing = pl.DataFrame({"width": [8], "lr": [0.1], "loss": [0.0], "sharpness": [-1.0]})
    with pytest.raises(InputError, match="no finite positive value"):
        width_panels(nothing)
