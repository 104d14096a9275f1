"""``edgescope sweep`` of other optimizers, mini-batches, schedules, dropout and seeds, and extended sweeps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from said import Run

from edgescope.cli.sweep_report import regime_of_run
from edgescope.store import Record
from edgescope.training.stability_factor import stability_factor

OWN = """
import torch
import edgescope as es

def parts(dropout=0.0, tested=True):
    data = es.DATA.build("digits:train=40,test=20").load()
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.Tanh(), torch.nn.Dropout(dropout), torch.nn.Linear(4, 10)
    )
    made = (model, es.supervised(es.losses.half_mse), (data.inputs, data.targets))
    return (*made, (data.test_inputs, data.test_targets)) if tested else made

def plain():
    return parts()

def masked():
    return parts(0.2)

def untested():
    return parts(tested=False)
"""
NAMED = ("--data", "digits:train=40,test=20", "--model", "mlp:widths=4", "--stop-loss", 0.4)
QUICK = ("--threads", 1, "--path", "kept", "--jobs", 1)


@pytest.fixture
def own(here: Path) -> str:
    (here / "own_runs.py").write_text(OWN)
    return "own_runs"


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn, for tests of what is run and printed."""
    monkeypatch.setattr("edgescope.cli.sweep_report.write_report", lambda out, **_: out / "report.html")
    monkeypatch.setattr("edgescope.cli.sweep_report.run_figures", lambda *_, **__: [])


def configs(folder: Path) -> dict[str, dict[str, object]]:
    found = {}
    for path in sorted(folder.glob("runs/*/record.sqlite")):
        with Record.open(path.parent) as record:
            found[path.parent.name] = record.config
    return found


def fingerprints(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("runs/*/record.sqlite")):
        with Record.open(path.parent) as record:
            found[path.parent.name] = record.fingerprint()
    return found


@pytest.mark.usefixtures("no_page")
def test_an_adaptive_optimizer_in_mini_batches_on_a_schedule(run: Run, own: str, here: Path) -> None:
    options = ("--optimizer", "muon+adamw:lr=0.002", "--batch", 16, "--clip", 1, "--schedule", "warmup:5,then=cosine")
    options = (*options, "--steps", 30, "--equal-steps", "--seeds", 2)
    said = run("sweep", f"{own}:plain", "--lr", "0.001,0.03", *options, *QUICK, "--out", "s")
    assert said.code == 0, said
    found = configs(here / "s")
    assert set(found) == {"lr0.001", "lr0.001-seed1", "lr0.03", "lr0.03-seed1"}  # no gradient flow
    for name, config in found.items():
        assert (config["optimizer"], config["batch"], config["clip"]) == ("muon+adamw:lr=0.002", 16, 1.0), name
        assert (config["schedule"], config["stop_loss"]) == ("warmup:5,then=cosine", None), name
        assert f"lr{config['lr']:g}" + ("-seed1" if config["seed"] else "") == name
        with Record.open(here / "s" / "runs" / name) as record:
            assert record.info["steps"] == 30
            regime = regime_of_run(record)
        row = re.search(rf"^ *{config['lr']:g} +{config['seed']} .*$", said.out, re.MULTILINE)
        assert row, said.out
        assert row[0].rstrip().endswith(regime)
    assert "critical learning rate: none, since gradient flow does not give that of muon+adamw:lr=0.002" in said.out
    assert "from 2 initialisations (seeds 0 to 1) for 30 steps; optimizer muon+adamw:lr=0.002, mini-batches" in said.out
    assert re.search(r"best test loss \S+, the mean over 2 seeds, at learning rate", said.out)
    assert max(map(len, said.out.splitlines()[:8])) <= 80


@pytest.mark.usefixtures("no_page")
def test_momentum_has_the_critical_rate_of_its_own_threshold(run: Run, own: str, here: Path) -> None:
    assert stability_factor("sgd") == 2
    assert stability_factor("sgd:momentum=0.9") == pytest.approx(3.8)
    assert stability_factor("sgd:momentum=0.9,nesterov=true") == pytest.approx(3.8 / 2.8)
    assert [stability_factor(spec) for spec in ("adam", "sgd:weight_decay=0.1", "muon+adamw", "langevin")] == [None] * 4
    options = ("--optimizer", "sgd:momentum=0.9", "--steps", 150, "--stop-loss", 0.42)
    said = run("sweep", f"{own}:untested", "--lr", "0.01,0.03,0.05", *options, *QUICK, "--out", "s")
    assert said.code == 0, said
    with Record.open(here / "s/runs/flow") as record:
        top = float(max(record.series("sharpness", "1")[1]))
        assert record.config["clip"] is None
    found = re.search(r"critical learning rate (\S+) = 3\.8 / ", said.out)
    assert found
    assert float(found[1]) == pytest.approx(3.8 / top, rel=1e-3)
    steps = {}
    for lr in ("0.01", "0.03", "0.05"):
        with Record.open(here / f"s/runs/lr{lr}") as record:
            steps[lr] = record.info["steps"]
    best = min(steps, key=lambda lr: steps[lr])
    assert f"best number of steps to the stop loss {steps[best]} at learning rate {best}," in said.out


@pytest.mark.usefixtures("no_page")
def test_dropout_is_told_before_anything_runs(run: Run, own: str, here: Path) -> None:
    said = run("sweep", f"{own}:masked", "--lr", "0.1", "--steps", 20, *QUICK, "--out", "s")
    assert said.code == 0, said
    assert said.err.startswith("edgescope: dropout is switched off in gradient flow and in all measurements\n")


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("batched", ["never", "always"])
def test_a_finished_sweep_is_extended_by_rates_and_seeds(run: Run, here: Path, batched: str) -> None:
    command = ("sweep", *NAMED, *QUICK, "--steps", 40, "--batched", batched)
    whole = run(*command, "--lr", "0.1,0.2,0.4", "--seeds", 2, "--out", "whole")
    assert whole.code == 0, whole
    assert run(*command, "--lr", "0.1,0.4", "--out", "s").code == 0
    before = fingerprints(here / "s")
    assert run(*command, "--lr", "0.2", "--resume", "--out", "s").code == 0
    assert set(fingerprints(here / "s")) == {"flow", "lr0.1", "lr0.2", "lr0.4"}
    after = run(*command[:-4], "--batched", batched, "--lr", "0.1,0.2", "--seeds", 2, "--resume", "--out", "s")
    assert after.code == 0, after
    now = fingerprints(here / "s")
    assert set(now) == set(fingerprints(here / "whole")) - {"batched-1"}
    assert {name: now[name] for name in before} == before
    if batched == "never":
        assert now == fingerprints(here / "whole")
        assert after.out.replace("s/", "") == whole.out.replace("whole/", "")
    again = run(*command, "--resume", "--out", "s")
    assert again.out == after.out
    assert json.loads((here / "s/sweep.json").read_text())["added"] == [0.2]


@pytest.mark.usefixtures("no_page")
def test_runs_that_were_cut_off_get_more_steps(run: Run, here: Path) -> None:
    command = ("sweep", *NAMED, *QUICK, "--lr", "0.01,0.5,3000", "--batched", "never")
    assert run(*command, "--steps", 90, "--out", "whole").code == 0
    first = run(*command, "--steps", 20, "--out", "s")
    assert first.code == 0, first
    assert (
        "s does not hold a sweep with these options (steps = 20 there, 19 here)"
        in run(*command, "--steps", 19, "--resume", "--out", "s").refusal()
    )
    assert run(*command, "--resume", "--out", "s").out == first.out  # as many steps as before
    assert run(*command, "--steps", 90, "--resume", "--out", "s").code == 0
    with Record.open(here / "s/runs/lr0.01") as run_on, Record.open(here / "whole/runs/lr0.01") as whole:
        assert run_on.info["steps"] == whole.info["steps"] > 20
    assert fingerprints(here / "s") == fingerprints(here / "whole")


@pytest.mark.usefixtures("no_page")
def test_what_cannot_be_swept_or_extended(run: Run, own: str, here: Path) -> None:
    base = ("sweep", f"{own}:plain", *QUICK, "--steps", 20, "--out", "s")
    for options, words in {
        ("--optimizer", "adam"): "a sweep of adam without learning rates; expected --lr",
        ("--optimizer", "gradient-flow", "--lr", "1"): "a sweep of gradient flow",
        ("--optimizer", "sdg", "--lr", "1"): "'sgd'",
        ("--optimizer", "muon", "--lr", "1"): "try the pair muon+adamw, which",
        ("--lr", "1", "--schedule", "cosin"): "'cosine'",
        ("--lr", "1", "--seeds", "0"): "seeds=0",
        ("--lr", "1", "--clip", "0"): "clip=0",
    }.items():
        assert words in run(*base, *options).refusal(), options
        assert not (here / "s").exists()
    falling = (*base, "--lr", "0.1", "--schedule", "cosine")
    assert run(*falling).code == 0
    assert "more steps for a sweep with the schedule 'cosine'" in run(*falling, "--steps", 30, "--resume").refusal()
    assert "(schedule = cosine there, None here)" in run(*base, "--lr", "0.1", "--resume").refusal()
    assert "(equal_steps = False there, True here)" in run(*falling, "--equal-steps", "--resume").refusal()
    together = ("sweep", *NAMED, *QUICK, "--lr", "0.01,0.02", "--batched", "always", "--out", "t")
    assert run(*together, "--steps", 20).code == 0
    assert "was trained in one batch" in run(*together, "--steps", 30, "--resume").refusal()
    (here / "s/sweep.json").write_text('{"base": {"steps": "20"}, "lr": "0.1"}')
    assert "does not describe a sweep of this version" in run(*falling, "--resume").refusal()
