"""Plans of studies: what they count, against runs and against arithmetic; and that nothing is run or downloaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from edgescope.data import DATA
from edgescope.data.download import fetch
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs
from edgescope.figures import Figure
from edgescope.measures.problem_size import ProblemSize
from edgescope.monitor.order import in_order
from edgescope.progress import Progress
from edgescope.store import Record
from edgescope.studies import STUDIES
from edgescope.studies.dry_run import StudyPlan, plan_study
from edgescope.studies.study import Study
from edgescope.sweep import Tagged, Task, TrainTask
from edgescope.sweep.plan import TaskPlan, gradients_of
from edgescope.training import RunConfig, train
from edgescope.training.gradient_time import GradientTime, time_gradient

TIMED = GradientTime(1000, 100, 0, 4000, seconds=1.0, timed_samples=100)
SMALL = RunConfig(
    data="digits:train=30,test=10",
    model="mlp:widths=4",
    steps=12,
    every=3,
    threads=1,
    path="kept",
    measures=("hessian_trace:num_matvecs=12,method=hutch++", "spectrum:probes=2,steps=5@6", "hessian_frobenius@end"),
)


def no_download(*_: object) -> Path:
    raise AssertionError("a download")


@dataclass(frozen=True)
class Simulation(Tagged):
    """A task without a training run."""

    name: str = "simulation"
    cost: float = 3.0

    def run(self, folder: Path, progress: Progress) -> None:
        raise AssertionError("it was run")


@dataclass(frozen=True)
class Several(Study):
    """Runs that can be planned and others that cannot."""

    name: ClassVar[str] = "several"
    title: ClassVar[str] = "Several"
    abstract: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    unknown: ClassVar[tuple[str, ...]] = ("Not known: the seeds.",)

    def tasks(self, preset: Preset, seed: int) -> Sequence[Task]:
        lost = replace(SMALL, data="text:nowhere.txt", model="gpt:width=4,heads=1,depth=1", loss="cross-entropy")
        return [TrainTask("small", SMALL, 1.0), TrainTask("lost", lost, 1.0), Simulation()]

    def figures(self, runs: Runs) -> list[Figure]:
        return []


def test_measures_are_expected_to_ask_for_what_they_do(tmp_path: Path) -> None:
    train(SMALL, tmp_path)
    with Record.open(tmp_path) as record:
        table = record.table().unique(("step", "measure"))
        spent = {name: int(table.filter(measure=name)["products"].sum()) for name in table["measure"].unique()}
    size = ProblemSize(310, 30)
    expected = {measure.name: measure.expected_cost(size).products for measure in in_order(SMALL.measures)[0]}
    assert spent["hessian_trace"] == 5 * expected["hessian_trace"] == 60
    assert spent["spectrum"] == 3 * expected["spectrum"] == 30
    assert spent["hessian_frobenius"] == expected["hessian_frobenius"]
    _, measuring = gradients_of(SMALL, SMALL.steps, TIMED, TIMED)
    assert measuring == 2 * sum(spent.values())  # a product is taken for two gradients


@pytest.mark.parametrize(("optimizer", "each"), [("sgd", 1), ("sam", 2), ("gradient-flow", 3)])
def test_gradients_of_a_step(optimizer: str, each: int) -> None:
    training, measuring = gradients_of(replace(SMALL, optimizer=optimizer, measures=("time",)), 12, TIMED, TIMED)
    assert (training, measuring) == (12 * each, 0)


def test_what_another_measure_finds_is_not_counted_twice() -> None:
    def measuring(*measures: str) -> float:
        return gradients_of(replace(SMALL, measures=measures), 12, TIMED, TIMED)[1]

    assert measuring("sharpness", "effective_sharpness", "ratio") == measuring("sharpness")
    assert measuring("sharpness@6", "effective_sharpness") > measuring("effective_sharpness") > 0


def test_a_dimension_by_mini_batches_costs_their_share_of_the_data() -> None:
    measures = ("sharpness_dimension:methods=exact,batch=10,batches=3@end",)
    assert gradients_of(replace(SMALL, measures=measures), 12, TIMED, TIMED)[1] == 2 * 0.3 * 1000


def test_a_budget_is_a_share_of_the_training_time() -> None:
    config = replace(SMALL, every=None, budget=0.25, batch=10)
    assert gradients_of(config, 100, TIMED, replace(TIMED, seconds=0.1)) == (100, pytest.approx(2.5))


def test_sizes_are_those_of_the_run() -> None:
    found = time_gradient(SMALL)
    assert (found.parameters, found.samples) == (64 * 4 + 4 + 4 * 10 + 10, 30)
    assert found.data_bytes == 40 * (64 * 4 + 8)
    assert found.parameter_bytes == 4 * found.parameters
    assert 0 < found.seconds < math.inf


def test_data_that_would_be_downloaded_are_random_of_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgescope.data.mnist.fetch", no_download)
    found = time_gradient(replace(SMALL, data="mnist", dtype="float64"), samples=7)
    assert (found.samples, found.timed_samples, found.parameters) == (60_000, 7, 784 * 4 + 4 + 4 * 10 + 10)
    assert found.data_bytes == 70_000 * (784 * 8 + 8)
    assert fetch is not no_download


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ("cifar10", (50_000, 10_000, (3, 32, 32))),
        ("cifar10-5k:test=100", (5000, 100, (3, 32, 32))),
        ("mnist:train=1000,pool=4", (1000, 10_000, (1, 7, 7))),
    ],
)
def test_published_shapes(data: str, shape: tuple[int, int, tuple[int, ...]]) -> None:
    found = DATA.build(data).published_shape()
    assert found is not None
    assert (found.train, found.test, found.input_shape) == shape


@pytest.mark.parametrize("data", ["digits", "mnist:folder", "modular-addition"])
def test_other_data_are_loaded(data: str) -> None:
    assert DATA.build(data).published_shape() is None


def test_a_plan_says_what_it_cannot_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_study(Several(), preset="paper", device="cpu")
    small, lost, simulation = plan.tasks
    assert (small.steps, small.parameters, small.bytes) == (12, 310, 40 * (64 * 4 + 8) + 2 * 4 * 310)
    assert small.seconds is not None
    assert plan.seconds == small.seconds
    assert small.gradients == 12 + gradients_of(SMALL, 12, TIMED, TIMED)[1]
    assert lost.note.startswith("not estimated: 'nowhere.txt' cannot be read")
    assert simulation == TaskPlan("simulation", 3.0, note="a simulation, not estimated")
    assert plan.not_estimated == [lost, simulation]
    assert plan.unknown == Several.unknown
    assert not list(tmp_path.iterdir())
    assert plan_study(Several(), preset="quick").unknown == ()


def test_times_with_several_jobs_are_those_of_the_most_costly_first() -> None:
    tasks = tuple(TaskPlan(str(n), seconds, seconds=seconds) for n, seconds in enumerate((3.0, 5.0, 3.0, 4.0, 3.0)))
    plan = StudyPlan("s", "quick", "cpu", tasks)
    assert [plan.seconds_with(jobs) for jobs in (1, 2, 9)] == [18, 10, 5]  # 5+3 beside 4+3+3


def test_networks_trained_together_and_runs_of_unknown_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgescope.data.mnist.fetch", no_download)
    (stack,) = [task for task in STUDIES.build("dimension").tasks("paper", 0) if task.name == "mlp-b256"]
    assert isinstance(stack, Tagged)
    (planned,) = stack.planned_runs()
    assert (planned.count, planned.steps) == (5, 250 * math.ceil(60_000 / 256))
    curve = STUDIES.build("tradeoff").tasks("quick", 0)[0]
    assert isinstance(curve, Tagged)
    assert [planned.steps for planned in curve.planned_runs()] == [None]


@dataclass(frozen=True)
class Guessed(Simulation):
    """A simulation that expects how long it takes."""

    @property
    def expected_seconds(self) -> float:
        return 20.0


def test_a_task_may_say_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Several, "tasks", lambda self, preset, seed: [Guessed(), Simulation("other")])
    plan = plan_study(Several())
    assert [task.seconds for task in plan.tasks] == [20.0, None]
    assert plan.tasks[0].note == "the time is the study's own guess for one core"
