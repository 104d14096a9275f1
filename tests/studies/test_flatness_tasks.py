"""Tasks of the study `flatness` on tiny networks, stopped and continued, and its presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgescope.errors import EdgescopeError
from edgescope.experiments.flatness.descents import SeedsTask, Stage
from edgescope.experiments.flatness.runs import PAPER, QUICK, SETTINGS, descent_task
from edgescope.experiments.flatness.sample_sizes import SampleSizesTask, scale, sufficient_samples
from edgescope.experiments.study_run import StudyRun
from edgescope.store import Record
from edgescope.studies import run_study
from edgescope.studies.flatness import Flatness

TINY = SeedsTask(
    name="bias-1SAM",
    cost=1.0,
    method="SAM",
    data="xor:dim=5,train=8,test=50",
    model="shallow:architecture=bias,width=10",
    loss="squared",
    stages=(Stage(20, 0.01, 0.05), Stage(12, 0.02, 0.1)),
    seeds=(0, 1),
)
FULL_BATCH = replace(
    TINY, name="batchnorm-SAM", model="shallow:architecture=batchnorm,width=6", data="xor:dim=5,train=9", batch=None
)
NOISE = replace(
    TINY, name="bias-noise", stages=(Stage(15, 0.01, sigma=0.2, decay=0.01),), loss="logistic:smoothing=0.2"
)
SIZES = SampleSizesTask("samples-d6", 1.0, dim=6, shares=(0.5, 1.0), steps=60, width=8, seeds=(0, 1))


class Stopped(Exception):
    pass


def quiet(share: float, words: str) -> None:
    pass


def stopping(calls: int) -> Callable[[float, str], None]:
    left = [calls]

    def stop(share: float, words: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    return stop


@pytest.mark.parametrize("task", [TINY, FULL_BATCH, NOISE, SIZES], ids=lambda task: task.name)
def test_a_task_that_was_stopped_continues_to_the_same_record(
    task: SeedsTask | SampleSizesTask, tmp_path: Path
) -> None:
    task.run(tmp_path / "whole", quiet)
    with pytest.raises(Stopped):
        task.run(tmp_path / "parts", stopping(1 if isinstance(task, SampleSizesTask) else 5))
    task.run(tmp_path / "parts", quiet)
    task.run(tmp_path / "parts", quiet)  # one that has ended is left alone
    with Record.open(tmp_path / "whole") as whole, Record.open(tmp_path / "parts") as parts:
        assert whole.status == parts.status == "finished"
        assert whole.fingerprint() == parts.fingerprint()
        if isinstance(task, SeedsTask):
            steps, trace = whole.series("trace", "1")
            assert steps[-1] == task.epochs * (1 if task.batch is None else 8)
            assert len(set(trace.tolist())) > 3
            assert 20 in task.moments() or task is NOISE
        else:
            assert whole.series("test_error", "0")[0].tolist() == [round(s * scale(6)) for s in (0.5, 1.0)]


def test_seeds_that_diverge_are_left_out(tmp_path: Path) -> None:
    replace(TINY, stages=(Stage(200, 4.0),)).run(tmp_path, quiet)
    with Record.open(tmp_path) as record:
        assert record.status == "diverged"
        assert "2 of 2 seeds" in record.events()["text"].to_list()


@pytest.mark.parametrize("preset", SETTINGS)
def test_the_presets_can_be_built_and_have_a_task_for_every_claim(preset: str) -> None:
    tasks = Flatness(data="digits", model="mlp:widths=8x8;activation=relu").tasks(preset, 3)  # type: ignore[arg-type]
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names)
    assert {"bias-1SAM", "batchnorm-noise", "samples-d10", "own-SGD-seed3", "own-rescaled", "constructions"} < {*names}
    assert all(task.cost > 0 for task in tasks)
    own = next(task for task in tasks if task.name == "own-SAM0.1-seed3")
    assert own.config.model == "mlp:widths=8x8,activation=relu"  # type: ignore[attr-defined]
    with pytest.raises(EdgescopeError, match="unknown data set 'digts'") as caught:
        Flatness(data="digts").tasks(preset, 0)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_study_that_cannot_be_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EdgescopeError, match="unknown model 'nope'"):
        run_study(Flatness(model="nope"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_run_of_the_preset_starts(tmp_path: Path) -> None:
    """One epoch of each kind of run that the tiny tasks above do not have."""
    for network, method in (
        ("layernorm", "1SAM"),
        ("softplus", "1SAM"),
        ("three-layers", "SGD"),
        ("ball-bias", "1SAM"),
    ):
        task = shortened(descent_task(network, method, QUICK, 0))
        task.run(tmp_path / task.name, quiet)
        with Record.open(tmp_path / task.name) as record:
            assert record.series("training_loss", "0")[1][-1] > 0
            assert np.isnan(record.series("least_trace", "0")[1][-1]) == (network == "softplus")
            assert record.tags["network"] == network
            assert record.tags["method"] == method


def shortened(task: SeedsTask) -> SeedsTask:
    """One epoch of every stage, of one seed, on a small network and few samples."""
    stages = tuple(replace(stage, epochs=1) for stage in task.stages)
    model = task.model.rpartition(",")[0] + ",width=9"
    return replace(task, stages=stages, seeds=(0,), model=model, data=f"{task.data}:train=10,test=20")


@pytest.mark.parametrize(
    ("network", "method", "epochs", "lr", "rho"),
    [
        ("no-bias", "GD", 100_000, 0.01, None),
        ("bias", "1SAM", 600_000, 0.01, 0.1),
        ("batchnorm", "1SAM", 200_000, 0.003, 1.0),
        ("softplus", "1SAM", 205_000, 0.005, 1.0),
        ("logistic", "SGD", 100_000, 0.01, None),
        ("ball-no-bias", "1SAM", 100_000, 0.01, 0.2),
    ],
)
def test_the_runs_of_the_paper_are_as_long_and_as_wide_as_its_own_and_start(
    network: str, method: str, epochs: int, lr: float, rho: float | None, tmp_path: Path
) -> None:
    task = descent_task(network, method, PAPER, 0)
    last = task.stages[-1]
    assert (task.epochs, last.lr, last.rho) == (epochs, lr, rho)
    assert task.model.endswith("width=500")
    assert last.decay == (0.0 if rho else 0.05)
    shortened(task).run(tmp_path, quiet)
    with Record.open(tmp_path) as record:
        assert record.status == "finished"


def test_sufficient_samples_are_found_between_sizes() -> None:
    errors = {10: np.array([0.4, 0.5, 0.2]), 20: np.array([0.1, 0.3, 0.1]), 30: np.array([0.0, 0.3, 0.0])}
    np.testing.assert_allclose(sufficient_samples(errors, 0.25), [15.0, np.nan, np.nan])
    np.testing.assert_allclose(sufficient_samples(errors, 0.05), [25.0, np.nan, 25.0])


def test_seeds_that_diverged_leave_their_claims_open(tmp_path: Path) -> None:
    task = replace(TINY, stages=(Stage(200, 4.0),), tags={"role": "descent", "network": "bias", "method": "1SAM"})
    task.run(tmp_path, quiet)
    with Record.open(tmp_path) as record:
        found = Flatness().findings({"bias-1SAM": StudyRun("bias-1SAM", record, record.tags)})
    assert {one.verdict for one in found} == {"open"}
