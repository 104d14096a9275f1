"""The verdicts of study `grokking` on records made by hand, whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgescope.claims import Finding
from edgescope.experiments.grokking.runs import SETTINGS, grokking_tasks
from edgescope.experiments.grokking.training_curves import TrainingCurves
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.grokking import GrokkingStudy
from edgescope.studies.grokking.figures import grokking_figures
from edgescope.sweep import TrainTask

CHECKPOINTS, EVERY, JUMP = 41, 100, 20


def smooth_step(at: float, width: float = 0.7) -> np.ndarray:
    return 1 / (1 + np.exp(-(np.arange(CHECKPOINTS) - at) / width))


def record_of(folder: Path, *, paper: bool, groks: bool = True, follows: bool = False) -> Record:
    """A run that learns at checkpoint 2 and understands at 20; its dimension as the paper has it, or not,
    or ``follows`` the gap."""
    t = np.arange(CHECKPOINTS)
    train, test = smooth_step(2), 0.95 * smooth_step(JUMP) if groks else 0.01 * np.ones(CHECKPOINTS)
    gap = np.abs(train - test)
    wiggle = 0.002 * np.sin(3.0 * t)
    ahead = 1 - smooth_step(JUMP - 1, 0.4)
    sd = 500 + 100 * (ahead + 0.01 * t) if paper else 500 + 100 * smooth_step(JUMP + 4, 3.0) - 2 * t
    sd = 500 + 100 * gap if follows else sd
    falling = 10 * np.exp(-t / 15) if paper else 10 + t + 5 * np.sin(t)
    exponent = 0.1 + 0.5 * (ahead if paper else 0.01 * t if follows else gap) + (1 if paper else 60) * wiggle
    coefficient = 30 * (1 - smooth_step(JUMP - 3, 0.4)) if paper else 30 + t**2 / 40
    record = Record.create(folder, config={"lr": 1.0})
    for i in range(CHECKPOINTS):
        readings = [
            Reading("accuracy", {"train": float(train[i]), "test": float(test[i])}),
            Reading("sharpness_dimension", {"slq": float(sd[i])}),
            Reading("rds_sharpness", {"": float(exponent[i])}),
            Reading("sharpness", {"1": float(falling[i] + (0 if paper else 20 * gap[i]))}),
            Reading("hessian_trace", {"": float(3 * falling[i])}),
            Reading("persistent_homology", {"lifetime_sum/euclidean": float(0.2 * falling[i])}),
            Reading("learning_coefficient", {"": float(coefficient[i]), "r_hat": 1.01}),
            Reading("norms", {"l2": float(20 - 0.1 * i)}),
        ]
        if i in (0, 20, 40):
            arrays = {"nodes": np.array([0.0, 5.0]), "weights": np.array([0.7, 0.3])}
            readings.append(Reading("spectrum", {"trace": 1.0}, arrays=arrays))
        record.append(EVERY * i, readings)
    record.set_status("finished")
    return record


def run_of(name: str, record: Record) -> StudyRun:
    return StudyRun(name, record, {"role": "training"})


def findings(folder: Path, *, paper: bool, groks: bool = True, follows: bool = False, count: int = 2) -> list[Finding]:
    records = {f"run{k}": record_of(folder / str(k), paper=paper, groks=groks, follows=follows) for k in range(count)}
    return GrokkingStudy().findings({name: run_of(name, record) for name, record in records.items()})


CLAIMS = [
    "memorise-first",
    "rises-before-jump",
    "drops-at-jump",
    "rises-after-jump",
    "others-fall",
    "clearest-change",
    "moves-before",
    "coefficient-changes-at-jump",
    "coefficient-moves-first",
]
FAILING = [claim for claim in CLAIMS if claim not in ("memorise-first", "rises-after-jump")]


def verdict(found: list[Finding], id: str) -> str:
    (one,) = [f for f in found if f.id == f"grokking.{id}"]
    return one.verdict


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    return findings(tmp_path_factory.mktemp("paper"), paper=True)


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    return findings(tmp_path_factory.mktemp("contrary"), paper=False)


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_holds_where_it_is_true(paper: list[Finding], claim: str) -> None:
    assert verdict(paper, claim) == "holds"


@pytest.mark.parametrize("claim", FAILING)
def test_every_claim_fails_on_a_counter_example(contrary: list[Finding], claim: str) -> None:
    assert verdict(contrary, claim) == "fails"


def test_a_dimension_that_falls_after_the_jump_fails(tmp_path: Path) -> None:
    assert verdict(findings(tmp_path, paper=False, follows=True), "rises-after-jump") == "fails"


@pytest.mark.parametrize(("follows", "expected"), [(True, "holds"), (False, "fails")])
def test_the_dimension_is_compared_with_the_best_of_the_others(tmp_path: Path, follows: bool, expected: str) -> None:
    found = findings(tmp_path, paper=False, follows=follows, count=3)
    assert verdict(found, "follows-gap") == expected
    assert verdict(found, "rds-follows-worse") == expected


def test_runs_that_do_not_grok_say_nothing_of_the_jump(tmp_path: Path) -> None:
    found = findings(tmp_path, paper=True, groks=False)
    assert verdict(found, "memorise-first") == "fails"
    assert {f.verdict for f in found if f.id != "grokking.memorise-first"} == {"open"}


def test_the_jump_is_where_the_test_accuracy_rises_most(tmp_path: Path) -> None:
    run = TrainingCurves.of(run_of("run", record_of(tmp_path / "a", paper=True)))
    assert run.grokked
    assert abs(run.jump - JUMP) <= 1
    assert run.began == 2


def test_pictures_are_drawn_from_the_same_records(tmp_path: Path) -> None:
    runs = {"p31-lr0.1": run_of("p31-lr0.1", record_of(tmp_path / "a", paper=True))}
    assert [figure.name for figure in grokking_figures(runs)] == ["training-p31-lr0_1", "spectra-p31-lr0_1"]


@pytest.mark.parametrize("preset", SETTINGS)
def test_every_run_of_a_preset_is_a_valid_configuration(preset: Preset) -> None:
    tasks = [task for task in grokking_tasks(preset, seed=2) if isinstance(task, TrainTask)]
    assert len({task.name for task in tasks}) == len(tasks) >= 3
    assert min(task.config.seed for task in tasks) == 2
    for task in tasks:
        assert task.config.steps // task.config.every >= 40  # type: ignore[operator]


def test_the_quick_preset_leaves_the_learning_coefficient_open() -> None:
    quick, full = ([t for t in grokking_tasks(preset, 0) if isinstance(t, TrainTask)] for preset in ("quick", "full"))
    assert not any("learning_coefficient" in str(task.config.measures) for task in quick)
    assert all("learning_coefficient" in str(task.config.measures) for task in full)
