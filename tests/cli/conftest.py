"""A folder of a user's, with modules of their own, as the working directory; and the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from said import Run, Said

from edgescope.cli import main

STUDY = '''
"""A study, a model and a measure of the user's own."""
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from edgescope.measures import MEASURES, Measure, Reading
from edgescope.models import MODELS, ModelConfig
from edgescope.claims import Finding, JudgedCase
from edgescope.studies import STUDIES, Study
from edgescope.sweep import TrainTask
from edgescope.training import RunConfig


@dataclass(frozen=True)
class Linear(ModelConfig):
    """A linear model of the user's."""

    def assemble(self, input_shape, outputs):
        size = 1
        for side in input_shape:
            size *= side
        return nn.Sequential(nn.Flatten(), nn.Linear(size, outputs))


@dataclass
class Interrupting(Measure):
    """Presses Ctrl-C at step 10 while there is a file 'armed'."""

    name: ClassVar[str] = "interrupting"
    title: ClassVar[str] = "Interrupting"
    unit: ClassVar[str] = "1"
    source: ClassVar[str] = "none"
    needs: ClassVar[str] = "nothing"

    def read(self, moment):
        if moment.step == 10 and Path("armed").exists():
            Path("armed").unlink()
            signal.raise_signal(signal.SIGINT)
        return Reading(self.name, {"": 1.0})


@dataclass(frozen=True)
class Small(Study):
    """A study of the user's."""

    name: ClassVar[str] = "small"
    title: ClassVar[str] = "A small study"
    abstract: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    broken: bool = False

    def tasks(self, preset, seed):
        measures = ("loss", "sharpness", "threshold", "ratio", "interrupting")
        return [
            TrainTask(
                f"lr {lr:g}",
                RunConfig(
                    data="digits:train=40,test=20", model="users-linear", lr=lr, steps=20,
                    every=5, measures=measures, seed=seed, threads=1, path="kept", checkpoint_every=100,
                    optimizer="gradient-flow" if self.broken and lr == 0.1 else "sgd", batch=8 if self.broken else None,
                ),
                1.0,
            )
            for lr in (0.05, 0.1)
        ]

    def findings(self, runs):
        steps = [float(run.record.last_step) for run in runs.values()]
        cases = tuple(JudgedCase(name, n, n, n, "fails") for name, n in zip(runs, steps, strict=True))
        return [Finding("small.pigs", "Pigs fly", "nobody", "pigs in the air", "fails", "They do not.", cases=cases)]

    def figures(self, runs):
        return []


MODELS.add("users-linear", Linear)
MEASURES.add("interrupting", Interrupting)
STUDIES.add("small", Small)
'''


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def invoke(*arguments: object) -> Said:
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return invoke


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def users_study(here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's that registers a study, a model and a measure; forgotten afterwards."""
    from edgescope.measures import MEASURES
    from edgescope.models import MODELS
    from edgescope.studies import STUDIES

    for registry in (MEASURES, MODELS, STUDIES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    (here / "users_study.py").write_text(STUDY)
    return "users_study"
