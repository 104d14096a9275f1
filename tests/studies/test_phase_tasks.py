"""The tasks of study `phases` in the small: what they record, and that a stopped one goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from edgescope.experiments.phases.addition import PARTS, AdditionSettings, AdditionTask
from edgescope.experiments.phases.batch_traps import BiasesTask, TrapTask, Trial
from edgescope.experiments.phases.decay_problems import grokking_problems, image_problems
from edgescope.experiments.phases.decay_trials import DecayProblem, DecayTrialsTask, rising, steps_to_target
from edgescope.experiments.phases.escape_estimates import escapes_expected, middle, time_ratio
from edgescope.experiments.phases.escape_task import EscapeTask, Noise
from edgescope.experiments.phases.few_samples import Sparse, SparseTask
from edgescope.experiments.phases.linear_schedules import LinearSchedulesTask, ScheduledNetworks
from edgescope.experiments.phases.network_sweeps import NetworkSettings, NetworksTask, Swept
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.experiments.phases.plateaus import DwellTask
from edgescope.experiments.phases.runs import paper_tasks
from edgescope.experiments.phases.sweeps import DecaySweep, SamplesTask, SweepTask
from edgescope.experiments.study_run import StudyRun
from edgescope.phases import EscapeTimes
from edgescope.statistics.estimate import Estimate
from edgescope.store import Record
from edgescope.studies.phases import Phases
from edgescope.training import RunConfig

NOISES = (Noise(400, temperature=0.01), Noise(400, temperature=0.006))
SWEPT = (Swept("digits, tanh", "digits:test=10", "mlp:widths=4x4", 4, 20),)
SHORT = RunConfig(data="digits:train=20,test=10", model="mlp:widths=4", loss="cross-entropy", lr=0.5, steps=6)
TRIED = DecayProblem("tiny", SHORT, usual=1e-3, target=0.15, memorised=0.1, every=1)
SMALL: dict[str, PiecesTask[Any]] = {
    "escape": EscapeTask("a", 1, 0, NOISES, signal=0.8, decay=0.25, level=0.3, replicas=4, width=4),
    "sweep": SweepTask("b", 1, 0, (DecaySweep("descent", 3, 30), DecaySweep("jitter", 2, 30, jitter=0.01)), 4),
    "traps": TrapTask("c", 1, 0, (Trial(100, 0.3, "whitened"), Trial(100, 0.3, "fresh")), epochs=5, replicas=2),
    "networks": NetworksTask(
        "e", 1, 0, SWEPT, NetworkSettings(3, 5, 20, 0, 2, escape_steps=10, path_steps=3, shares=(1.0,))
    ),
    "biases": BiasesTask("g", 1, 0, (False, True), 1, 4, 2),
    "dwell": DwellTask("h", 1, 0, (0, 0), (1e-1, 1e-2)),
    "addition": AdditionTask(
        "f", 1, 0, PARTS, 5, AdditionSettings((1e-4, 1e-3), 20, (1e-4, 1e-3), 5, 5, 3, 0, checkpoints=10)
    ),
    "schedules": LinearSchedulesTask(
        "i",
        1,
        0,
        (ScheduledNetworks(3, "learn", 1.5), ScheduledNetworks(3, "dip"), ScheduledNetworks(3, "noise")),
        replicas=2,
        random=5,
        noise_steps=30_000,
    ),
    "trials": DecayTrialsTask("j", 1, 0, (TRIED, TRIED), 2),
    "sparse": SparseTask("d", 1, 0, (Sparse(100, 0.0025, 50, 1), Sparse(100, 0.1, 50, 2, 1e-4)), window=(0.5, 0.9)),
}


def nothing(fraction: float, text: str) -> None:
    pass


@pytest.mark.parametrize("name", SMALL)
def test_a_task_that_was_stopped_goes_on_to_the_same_record(tmp_path: Path, name: str) -> None:
    task = SMALL[name]
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    task.run(tmp_path / "whole", nothing)

    class Stopped(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        task.run(tmp_path / "parts", stop)
    task.run(tmp_path / "parts", nothing)
    with Record.open(tmp_path / "whole") as whole, Record.open(tmp_path / "parts") as parts:
        assert parts.status == whole.status == "finished"
        assert parts.fingerprint() == whole.fingerprint()


def test_linear_networks_take_the_steps_of_the_closed_form_and_are_freed(tmp_path: Path) -> None:
    task: Any = SMALL["schedules"]
    (learn,), (dip,), (noise,) = (task.simulate(piece, 1) for piece in task.pieces)
    assert learn.values["learned"] == dip.values["learned"] == noise.values["learned"] == 2
    assert dip.values["constant"] == noise.values["constant"] == 0
    assert learn.values["fewest"] >= 1
    assert learn.arrays["steps/scheduled"] == pytest.approx(learn.values["closed"], rel=0.15)
    assert (learn.arrays["steps/constant"] > learn.arrays["steps/scheduled"]).all()


def test_trials_count_the_steps_of_the_optimizer_under_the_decay_of_each_step() -> None:
    hard = replace(TRIED, target=1.01, memorised=0.01)
    seen: list[int] = []

    def decay(step: int) -> float:
        seen.append(step)
        return 0.1

    assert steps_to_target(hard, 3, decay) == (np.inf, 0.0)
    assert set(seen) == set(range(6))
    assert steps_to_target(replace(TRIED, target=0.0), 3, decay)[0] == 0
    at = rising(TRIED, 4.0, 0.01)
    assert [at(step) for step in (0, 3, 4)] == [0.0, 0.0, 0.01]
    names = [problem.name for problem in (*image_problems(), *grokking_problems())]
    assert names == ["digits", "fashion", "grok-mlp", "grok-transformer", "grok-teacher"]


@pytest.mark.parametrize("preset", ["quick", "full", "paper"])
def test_the_tasks_of_a_preset_have_names_of_their_own_and_tags(preset: Any) -> None:
    tasks = Phases().tasks(preset, seed=3)
    assert len({task.name for task in tasks}) == len(tasks)
    assert {task.seed for task in tasks} == {3}  # type: ignore[attr-defined]
    assert all(entry.tags["kind"] for entry in Phases().entries(tasks))


def test_the_papers_runs_begin_and_their_records_are_judged(tmp_path: Path) -> None:
    runs = {}
    for task in paper_tasks(0, runs=2, epochs=8):
        assert isinstance(task, PiecesTask)
        small = replace(task, steps=20) if isinstance(task, SamplesTask) else task
        (tmp_path / task.name).mkdir()
        small.run(tmp_path / task.name, nothing)
        runs[task.name] = StudyRun(task.name, Record.open(tmp_path / task.name), task.tags)
    found = {finding.id: finding for finding in Phases().findings(runs)}
    traps = {finding.id: finding.verdict for finding in found.values() if "batches-escape" in finding.id}
    assert traps == {"phases.batches-escape-in-time": "open", "phases.batches-escape-at-all": "open"}
    assert len(found["phases.no-jump-after-long-traps"].cases) == 2
    assert len(found["phases.samples-observed-decays"].cases) == 2


def test_the_paper_traps_each_network_on_a_draw_of_its_own(tmp_path: Path) -> None:
    task = TrapTask("a", 1, 0, (Trial(5, 0.3, "drawn"),) * 2, epochs=1, replicas=1, trap=0.43, rank=0, random=True)
    task.run(tmp_path, nothing)
    with Record.open(tmp_path) as record:
        first, second = (record.array(step, "null", "before") for step in (0, 1))
    assert first[0] != second[0]


def test_the_lost_singular_value_is_the_one_above_the_rank_of_the_trap(tmp_path: Path) -> None:
    ends = {}
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
        trial = (Trial(10, 0.1, "fresh"),)
        TrapTask("a", 1, 0, trial, epochs=1, replicas=3, trap=0.1, rank=rank).run(tmp_path / str(rank), nothing)
        with Record.open(tmp_path / str(rank)) as record:
            ends[rank] = record.array(0, "null", "before")
    assert (ends[0] > ends[1]).all()


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [middle(rng.exponential(size=20), "draws") for _ in range(2000)]
    covered = np.mean([one.low <= np.log(2) <= one.high for one in found])
    exact = 1 - 2 * stats.binom.cdf(5, 20, 0.5)  # between the 6th and the 15th of 20
    assert covered == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / 2000))
    assert not middle([1, 2, 3, 4, 5], "draws").known


def test_the_interval_of_a_ratio_of_mean_times_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)

    def times(mean: float, count: int) -> EscapeTimes:
        return EscapeTimes(rng.exponential(mean, count), np.ones(count, dtype=bool))

    found = [time_ratio(times(3.0, 5), times(1.0, 12), unit=2.0) for _ in range(2000)]
    covered = np.mean([isinstance(one, Estimate) and one.low <= 1.5 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_the_interval_of_a_number_of_escapes_is_that_of_a_poisson_number() -> None:
    found = escapes_expected(4, epochs=20_000, least=0.5)
    assert isinstance(found, Estimate)
    assert found.value == 2
    assert stats.poisson.sf(3, 2 * found.low) == pytest.approx(0.025)
    assert stats.poisson.cdf(4, 2 * found.high) == pytest.approx(0.025)
