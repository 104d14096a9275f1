"""The tasks of study `central`: what they record, against what is worked out by hand; stopped and continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from edgescope.errors import InputError
from edgescope.experiments.central.compared_run import ComparedRun
from edgescope.experiments.central.descent import FullBatchDescent
from edgescope.experiments.central.flow_task import START, FlowTask
from edgescope.experiments.central.followed_flow import make_flows
from edgescope.experiments.central.gap_task import GapTask
from edgescope.experiments.central.gap_terms import MEASURE
from edgescope.experiments.central.multiplier_flow import LinfMultiplierFlow, _smallest
from edgescope.experiments.central.runs import FIRST_SEED, SETTINGS, central_tasks
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.progress import no_progress
from edgescope.store import Record
from edgescope.sweep import Tagged
from edgescope.sweep.plan import plan_tasks
from edgescope.training import RunConfig

SMALL = RunConfig(
    data="digits:train=40,test=20,pool=4",
    model="mlp:widths=6,activation=tanh",
    lr=0.6,
    steps=200,
    dtype="float64",
    threads=1,
    measures=(),
)
GD = FlowTask(
    "gd", 1.0, SMALL, (("stable", 4), ("central", 2), ("corrected", 2)), 8, every=2, block=4, checkpoint_every=3
)
LINF = FlowTask(
    "linf",
    1.0,
    replace(SMALL, optimizer="steepest:geometry=linf", lr=0.02),
    (("stable", 4), ("two-point", 2), ("multiplier", 1)),
    6,
    start=None,
    every=2,
    alone=2,
    checkpoint_every=3,
)


class Stopped(Exception):
    """The task was stopped on purpose."""


def go(task: FlowTask | GapTask, folder: Path, stop_at: float = 2.0) -> StudyRun:
    def progress(share: float, words: str = "", left: float | None = None, /) -> None:
        if share >= stop_at:
            raise Stopped

    task.run(folder, progress)
    return StudyRun(folder.name, Record.open(folder), task.tags)


def rows(run: StudyRun) -> list[tuple[object, ...]]:
    return run.record.table().select("step", "measure", "part", "value").rows()


def test_the_iterates_are_those_of_the_optimizer_and_their_average_the_midpoint() -> None:
    descent = FullBatchDescent(SMALL)
    w = [descent.objective.parameters()]
    for _ in range(4):
        w.append(w[-1] - SMALL.lr * descent.objective.gradient(w[-1]))
    descent.reach(3)
    torch.testing.assert_close(descent.iterates[-1], w[3])
    assert descent.loss == pytest.approx(float(descent.objective.loss(w[2])))
    assert descent.gradient_square == pytest.approx(float(descent.objective.gradient(w[2]).square().sum()))
    torch.testing.assert_close(descent.average(between=False), (w[1] + 2 * w[2] + w[3]) / 4)
    torch.testing.assert_close(descent.average(between=True), (w[0] + 3 * w[1] + 3 * w[2] + w[3]) / 8)


def test_a_comparison_records_optimizer_and_flows_at_the_same_times(tmp_path: Path) -> None:
    run = ComparedRun(go(GD, tmp_path / "gd"))
    record = run.run.record
    assert (run.start, record.status, record.last_step) == (0, "finished", 8)
    descent = FullBatchDescent(SMALL)
    descent.reach(GD.horizon + 1)  # whose loss is that before the step
    assert run.last("flow_loss", "optimizer") == pytest.approx(descent.loss)
    # Far below the threshold all flows stay near, and the correction is what descent does.
    assert run.last("flow_distance", "corrected") < run.last("flow_distance", "central")
    assert run.series("flow_distance", "stable")[0].tolist() == [2, 4, 6, 8]
    sharpness = run.series("flow_sharpness", "central")[1]
    assert sharpness.size == GD.horizon
    assert run.last("flow_sharpness", "optimizer") == pytest.approx(sharpness[-1], rel=0.05)


def test_where_nothing_oscillates_the_prediction_is_the_loss_itself(tmp_path: Path) -> None:
    run = ComparedRun(go(replace(GD, config=replace(SMALL, lr=0.1)), tmp_path / "slow"))
    assert np.array_equal(run.series("flow_loss", "central")[1], run.series("flow_loss", "central/predicted")[1])
    assert run.missing_at_edge("central") is not None


@pytest.mark.parametrize("task", [GD, LINF], ids=lambda task: task.name)
def test_a_comparison_that_was_stopped_goes_on_to_the_same_record(task: FlowTask, tmp_path: Path) -> None:
    whole = go(task, tmp_path / "whole")
    with pytest.raises(Stopped):
        go(task, tmp_path / "stopped", stop_at=0.6)
    assert rows(go(task, tmp_path / "stopped")) == rows(whole)


def test_flows_in_other_norms_begin_where_the_steps_alternate(tmp_path: Path) -> None:
    run = ComparedRun(go(LINF, tmp_path / "linf"))
    assert run.start is not None
    assert 10 < run.start < 200
    # The first reading compares the mean of two iterates, moved by one step, with the averaged trajectory there.
    assert run.series("flow_distance", "two-point")[1][0] < run.series("flow_distance", "stable")[1][-1]
    locked = run.series("locked")
    assert locked[0][-1] == run.start + LINF.horizon + LINF.alone
    assert ((locked[1] >= 0) & (locked[1] <= 1)).all()
    assert run.missing is None


def test_a_run_that_never_oscillates_says_so(tmp_path: Path) -> None:
    calm = replace(LINF, config=replace(LINF.config, lr=1e-5, steps=15))
    run = go(calm, tmp_path / "calm")
    assert run.record.info[START] is None
    assert run.record.status == "finished"
    assert ComparedRun(run).missing is not None


def test_flows_are_refused_by_a_name_that_is_none_and_the_multiplier_without_a_pair() -> None:
    descent = FullBatchDescent(LINF.config)
    with pytest.raises(InputError, match="two-point"):
        make_flows([("two-points", 2)], descent.objective, descent.optimizer, None)
    with pytest.raises(InputError, match="one iterate"):
        make_flows([("multiplier", 2)], descent.objective, descent.optimizer, None)


def test_the_multiplier_holds_the_sharpness_where_it_would_rise() -> None:
    descent = FullBatchDescent(LINF.config)
    assert descent.reach_oscillation(200)
    before, now = descent.iterates[-2], descent.iterates[-1]
    flow = LinfMultiplierFlow(descent.objective, LINF.config.lr, (before + now) / 2, (now - before) / 2, 8)
    held = []
    for _ in range(6):
        flow.step()
        held.append(flow.sharpness * LINF.config.lr / 2)
    assert max(held) < 1.1
    assert flow.c_square >= 0


def test_the_smallest_multiplier_is_a_root() -> None:
    assert _smallest(lambda c: c + 1) == 0.0
    assert _smallest(lambda c: c - 3.5) == pytest.approx(3.5, rel=1e-9)


def test_batches_are_drawn_anew_at_every_step_and_the_run_can_be_stopped(tmp_path: Path) -> None:
    task = GapTask("gap", 1.0, replace(SMALL, batch=20, steps=20), first=5, window=5)
    whole = go(task, tmp_path / "whole")
    steps, _ = whole.record.series(MEASURE, "measured")
    assert steps.tolist() == [10, 15, 20]
    with pytest.raises(Stopped):
        go(task, tmp_path / "stopped", stop_at=0.8)
    assert rows(go(task, tmp_path / "stopped")) == rows(whole)


def test_on_the_full_batch_sgd_is_descent_and_the_gap_that_of_the_mean(tmp_path: Path) -> None:
    task = GapTask("gap", 1.0, replace(SMALL, steps=8), first=4, window=4)
    run = go(task, tmp_path / "all")
    descent = FullBatchDescent(SMALL)
    descent.reach(5)
    found = [descent.iterates[-1]]
    while descent.steps < 8:
        descent.advance()
        found.append(descent.iterates[-1])
    hessian = torch.stack(
        [
            descent.objective.hvp(e, torch.stack(found).mean(0))
            for e in torch.eye(descent.objective.size, dtype=torch.float64)
        ]
    )
    expected = 2 / SMALL.lr - float(torch.linalg.eigvalsh(hessian)[-1])
    assert run.record.series(MEASURE, "measured")[1][0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("preset", SETTINGS)
def test_the_tasks_of_a_preset_have_seeds_that_no_region_was_chosen_by(preset: Preset) -> None:
    tasks = cast(list[FlowTask | GapTask], central_tasks(preset, 0))
    assert len({task.name for task in tasks}) == len(tasks)
    assert min(task.config.seed for task in tasks) >= FIRST_SEED > 2
    assert {task.tags["kind"] for task in tasks} == {"flows", "gap"}
    for task in tasks:
        assert isinstance(task, Tagged)
        if isinstance(task, FlowTask):
            assert 0 <= task.average_from < task.horizon


def test_a_dry_run_plans_the_optimizers_and_guesses_the_flows() -> None:
    plans = plan_tasks(central_tasks("quick", 0)[:1], None, no_progress)
    assert plans[0].steps
    assert "its flows take" in plans[0].note
