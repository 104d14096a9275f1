"""``edgescope lr`` and ``edgescope doctor``: exit codes, JSON, pictures, and what they refuse."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from said import Run
from torch import nn

MODULE = """
import torch
from torch import nn
import torch.nn.functional as F


def regression():
    x = torch.linspace(-1, 1, 40)[:, None]
    return nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)), F.mse_loss, (x, x.sin())


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))


def noise():
    # Whatever the step, the loss does not fall: each batch adds a slope that the next one takes back.
    signs = [(torch.tensor([1.0]),), (torch.tensor([-1.0]),)]
    return Number(), lambda model, batch: 1 + 1e3 * (model.w - 1) * batch[0].mean() + 1e9 * (model.w - 1) ** 2, signs


def stuck():
    return Number(), lambda model, batch: 0 * model.w * batch.mean() + 1, torch.ones(3, 1)


def broken():
    model, loss, (x, y) = regression()
    return model, loss, (x * float("nan"), y)


def tuple_of_two():
    return 1, 2
"""
FEW = ("--seeds", "1", "--steps", "10", "--warm-up", "4")


@pytest.fixture(autouse=True)
def module(here: Path) -> None:
    (here / "rates_module.py").write_text(MODULE)


def test_a_suggestion_exits_with_0(run: Run, here: Path) -> None:
    said = run("lr", "rates_module:regression", "--optimizer", "adam", "--batch", "10", *FEW, "--picture", "pictures")
    assert said.code == 0
    assert said.out.startswith("Suggested learning rate for adam: ")
    assert "suggested" in said.out
    written = {path.name for path in (here / "pictures").iterdir()}
    assert written == {f"learning-rate.{kind}" for kind in ("svg", "png", "pdf")}


def test_json_is_one_line_of_finite_numbers(run: Run) -> None:
    said = run("lr", "rates_module:regression", *FEW, "--schedule", "cosine", "--json")
    found = json.loads(said.out)
    assert said.out.count("\n") == 1
    assert found["trained"] is True
    assert found["low"] <= found["suggested"] <= found["high"]
    assert math.isfinite(found["at_start"]["median"])
    assert found["schedule"] == "cosine"


def test_where_nothing_trains_it_exits_with_3(run: Run) -> None:
    said = run("lr", "rates_module:noise", *FEW, "--json")
    assert said.code == 3
    assert json.loads(said.out)["trained"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rates_module:nothing"], "no function 'nothing'"),
        (["rates_module"], "expected module:function"),
        (["no_such_module:f"], "no module 'no_such_module'"),
        (["rates_module:tuple_of_two"], "returned a tuple of 2; expected (model, loss_fn, data)"),
        (["rates_module:regression", "--optimizer", "adm"], "unknown optimizer 'adm'"),
        (["rates_module:regression", "--batch", "41"], "batch=41; expected at most 40"),
        (["rates_module:regression", "--steps", "2"], "--steps=2"),
        (["rates_module:regression", "--seconds", "-1"], "--seconds=-1"),
        (["rates_module:regression", "--schedule", "step"], "--schedule 'step'"),
        (["rates_module:stuck"], "on no batch does the optimizer's step lower the loss"),
        (["rates_module:broken"], "NaN or infinity"),
    ],
)
def test_wrong_input_is_one_line_and_exits_with_2(run: Run, arguments: list[str], words: str) -> None:
    assert words in run("lr", *arguments).refusal()


def test_doctor_prints_all_checks(run: Run) -> None:
    said = run("doctor", "rates_module:regression", "--optimizer", "sgd:momentum=0.9", "--lr", "0.1")
    assert said.code == 0
    assert "(2+2β)/η = 38" in said.out
    assert "sharpness_dimension" in said.out
    assert len(said.out.splitlines()) < 80, "a line for each measure, and none for each word of a narrow column"
    words = " ".join(said.out.split())
    assert "headroom: in a run, since it needs the loss before and beyond an optimizer step" in words
    without = " ".join(run("doctor", "rates_module:regression", "--measures", "ratio", "threshold").out.split())
    assert "ratio, threshold: refused, since it is a measure of the optimizer; try an optimizer" in without


def test_doctor_exits_with_3_where_nothing_can_be_measured(run: Run) -> None:
    said = run("doctor", "rates_module:broken")
    assert said.code == 3
    assert "refused" in said.out
    assert "nothing can be measured before the refused checks are mended" in said.out
    found = json.loads(run("doctor", "rates_module:broken", "--json").out)
    assert found["usable"] is False
    assert [row["status"] for row in found["rows"] if row["area"] == "data"] == ["refused"]


def test_a_pair_of_optimizers_is_refused_with_what_takes_it(run: Run) -> None:
    for command in ("lr", "doctor"):
        said = run(command, "rates_module:regression", "--optimizer", "muon+adamw").refusal()
        assert "a pair of optimizers, 'muon+adamw'; expected one optimizer; try 'edgescope sweep'" in said


def test_doctor_refuses_wrong_names(run: Run) -> None:
    assert "unknown measure 'sharpnes'" in run("doctor", "rates_module:regression", "--measures", "sharpnes").refusal()
    assert "unknown optimizer 'adm'" in run("doctor", "rates_module:regression", "--optimizer", "adm").refusal()
    assert "no function" in run("doctor", "rates_module:none").refusal()


def test_one_function_with_a_criterion_serves_all_commands(run: Run, here: Path) -> None:
    function = "rates_module:regression"
    few = ("--lr", "0.1,0.2", "--steps", "3", "--equal-steps", "--jobs", "1", "--out", "swept")
    assert run("sweep", function, *few).code == 0
    assert run("advise", function, "--seconds", "0.1").code == 0
    torch.save(nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).state_dict(), here / "saved.pt")
    assert run("inspect", "saved.pt", "--objective", function, "--k", "1").code == 0
