"""Runs that are known by name: what they stand for, what options change of them, and runs of a few steps."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from said import Run

from edgescope.cli.train import flags
from edgescope.store import Record
from edgescope.training import SETUPS, Parts, RunConfig
from edgescope.training.setups.grok_mlp import GrokMLP


@pytest.mark.parametrize("name", ["grok-mlp", "grok-teacher", "grok-transformer"])
def test_a_setup_is_a_configuration_whose_parts_fit_together(name: str) -> None:
    config = SETUPS.build(name)
    assert isinstance(config, RunConfig)
    parts = Parts(config)
    assert parts.from_objective  # the full batch: grokking needs no noise
    outputs = parts.model(parts.samples[0][:3])
    assert outputs.shape == (3, parts.data.classes)
    if name != "grok-teacher":
        both = {tuple(map(int, x.nonzero().flatten())) for x in (*parts.samples[0], *parts.test_samples[0])}
        assert len(both) == len(parts.samples[0]) + len(parts.test_samples[0])


@pytest.mark.parametrize("name", ["grok-mlp", "grok-teacher", "grok-transformer"])
def test_a_setup_is_trained_with_options_that_replace_its_own(run: Run, here: Path, name: str) -> None:
    usual = SETUPS.build(name)
    data = "teacher-network:train=8,test=8" if name == "grok-teacher" else "modular-addition:modulus=5,share=0.6"
    options = ("--data", data, "--lr", 0.002, "--steps", 4, "--every", 2, "--threads", 1, "--seed", 3)
    said = run("train", "--setup", name, *options, "--measures", "loss", "norms")
    assert said.code == 0, said
    with Record.open(here / "runs" / name) as record:
        config = record.config
        assert (record.last_step, record.status) == (4, "finished")
    assert (config["data"], config["lr"], config["measures"], config["seed"]) == (data, 0.002, ["loss", "norms"], 3)
    assert (config["model"], config["optimizer"], config["loss"]) == (usual.model, usual.optimizer, usual.loss)


def test_every_option_can_be_replaced(run: Run, here: Path) -> None:
    changed = dataclasses.replace(
        RunConfig(), data="digits:train=20,test=10", model="mlp:widths=3", optimizer="sgd", loss="mse", lr=0.1, steps=2,
        batch=5, every=1, measures=("loss",), seed=2, dtype="float64", checkpoint_every=1, stop_loss=1e-9, threads=1,
    )  # fmt: skip
    words = ["--setup=grok-mlp"]
    for option in dataclasses.fields(changed):
        value = getattr(changed, option.name)
        if value is not None and not isinstance(value, bool):
            words += [f"--{option.name.replace('_', '-')}", *(value if isinstance(value, tuple) else (str(value),))]
    assert run("train", *words, "--out", "a").code == 0
    with Record.open("a") as record:
        expected = changed.as_dict()
        assert {name: record.config[name] for name in expected} == expected


def test_an_option_that_is_on_or_off_is_written_without_a_value(run: Run, here: Path) -> None:
    words = flags(dataclasses.replace(RunConfig(), spikes=True), RunConfig())
    assert words == ["--spikes"]
    small = "--data digits:train=20,test=10 --model mlp:widths=3 --steps 2 --threads 1"
    assert run("train", *small.split(), *words, "--out", "a").code == 0
    with Record.open("a") as record:
        assert record.config["spikes"] is True


def test_setups_are_listed_as_they_are_typed(run: Run) -> None:
    said = run("list", "setups")
    text = " ".join(said.out.split())
    for name in SETUPS:
        config = SETUPS.build(name)
        assert name in text
        assert shlex.join(["--data", config.data]) in text.replace("- ", "-")
        assert f"--steps {config.steps}" in text
    assert "--threads" not in text  # only what a setup sets itself


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--setup grok-mpl", "unknown setup 'grok-mpl'; expected one of grok-mlp, grok-teacher, grok-transformer; try"),
        ("--setup grok-mlp:sed=3", "setup 'grok-mlp' has no option 'sed'"),
        ("--setup grok-mlp --lr -1", "lr=-1;"),
        ("--setup grok-mlp --budget 0.1", "both every and budget"),
        ("--setup grok-mlp --steps many", "steps"),
        ("--setup", "setup"),
    ],
)
def test_setups_that_cannot_be(run: Run, here: Path, words: str, fault: str) -> None:
    assert fault in run("train", *words.split(), "--out", "a").refusal()
    assert not (here / "a").exists()


def test_options_of_a_setup_in_its_name() -> None:
    assert SETUPS.build("grok-mlp:lr=0.02,steps=7") == GrokMLP(lr=0.02, steps=7)
