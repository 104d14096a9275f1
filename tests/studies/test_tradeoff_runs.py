"""Study `tradeoff`: its tasks, carried out small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgescope.measures import Reading
from edgescope.report import Finding
from edgescope.store import Record
from edgescope.studies.tradeoff.claims_beside import rescaled
from edgescope.studies.tradeoff.claims_diagonal import diagonal_findings
from edgescope.studies.tradeoff.curve_task import CurveTask
from edgescope.studies.tradeoff.curves import LEAST, curves_of
from edgescope.studies.tradeoff.diagonal import DiagonalTask
from edgescope.studies.tradeoff.rescaling import RescalingTask
from edgescope.studies.tradeoff.runs import FAMILIES, tradeoff_tasks
from edgescope.theory.diagonal import Problem
from edgescope.training import RunConfig

BASE = RunConfig(
    data="digits:train=40,test=30",
    model="mlp:widths=5,activation=relu",
    loss="mse",
    stop_loss=0.35,
    seed=3,
    dtype="float64",
    threads=1,
    path="kept",
)


def quiet(share: float, words: str) -> None:
    pass


def task(stacked: bool, model: str = "mlp:widths=5,activation=relu", **more: object) -> CurveTask:
    return CurveTask("MLP-MSE-seed3", 1.0, replace(BASE, model=model, **more), (0.5, 1.5, 10.0), stacked)  # type: ignore[arg-type]


def records(folder: Path, of: CurveTask) -> dict[str, Record]:
    return {f"{of.name}/{name}": Record.open(folder / name) for name in of.folders()}


@pytest.mark.parametrize("stacked", [True, False])
def test_a_curve_is_flow_and_descent_at_multiples_of_its_critical_rate(tmp_path: Path, stacked: bool) -> None:
    task(stacked).run(tmp_path, quiet)
    (curve,) = curves_of(records(tmp_path, task(stacked)))
    assert curve.flow_reached
    assert curve.flow["train_loss"] <= 0.35
    assert curve.highest >= curve.start > 0 > curve.least
    assert curve.table["ratio"].to_list() == pytest.approx([0.5, 1.5, 10.0])
    assert curve.table["status"].to_list() == ["reached", "reached", "diverged"]
    assert curve.table["train_loss"][0] <= 0.35
    for column in ("test_loss", "sharpness", "l1", "adaptive", "adaptive_worst", "path_norm", "averaged_l1"):
        assert curve.table[column].null_count() == 1
    # A rate well below the critical one ends near the flow, from the same initialisation.
    assert curve.table["l2"][0] == pytest.approx(curve.flow["l2"], rel=0.05)


def test_the_least_eigenvalue_at_the_start_is_that_of_the_dense_hessian(tmp_path: Path) -> None:
    task(True).run(tmp_path, quiet)
    from edgescope.linalg import to_matrix
    from edgescope.training import Parts

    parts = Parts(BASE)
    values = torch.linalg.eigvalsh(to_matrix(parts.objective(parts.samples, "eval", path="kept", threads=1)))
    with Record.open(tmp_path / "flow") as flow:
        assert flow.info[LEAST] == pytest.approx(float(values[0]), rel=1e-3)
        assert flow.series("sharpness", "1")[1][0] == pytest.approx(float(values[-1]), rel=1e-3)


def test_a_network_with_batch_statistics_has_a_curve_too(tmp_path: Path) -> None:
    curve_task = replace(task(False, "resnet:widths=2", stop_loss=0.44, every=2, dtype="float32"), ratios=(0.5,))
    curve_task.run(tmp_path, quiet)
    (curve,) = curves_of(records(tmp_path, curve_task))
    assert curve.table["status"].to_list() == ["reached"]
    assert curve.table["l2"][0] == pytest.approx(curve.flow["l2"], rel=0.05)


def test_where_the_flow_does_not_arrive_nothing_else_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgescope.studies.tradeoff.curve_task.FLOW_STEPS", 5)
    task(True).run(tmp_path, quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow"]
    (curve,) = curves_of({"MLP-MSE-seed3/flow": Record.open(tmp_path / "flow")})
    assert not curve.flow_reached
    assert curve.table.height == 0


GRID = (0.1, 0.4, 0.6, 0.8, 1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.95, 2.5)


@pytest.fixture(scope="module")
def one_sample(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("one")
    DiagonalTask("diagonal-one-sample", 1.0, GRID).run(folder, quiet)
    return Record.open(folder)


DIAGONAL = {
    "minimisers": "minimisers of norm and sharpness differ",
    "formulas": "closed forms and a table",
    "controls": "one bias alone wins",
    "which": "l1 rises and falls",
}


def one(findings: list[Finding], words: str) -> Finding:
    (found,) = [finding for finding in findings if words in finding.claim]
    return found


@pytest.mark.parametrize("claim", DIAGONAL)
def test_the_claims_on_one_sample_hold(one_sample: Record, claim: str) -> None:
    assert one(diagonal_findings({"diagonal-one-sample": one_sample}), DIAGONAL[claim]).verdict == "holds"


def test_the_record_of_a_diagonal_network_is_what_the_theory_says(one_sample: Record) -> None:
    problem = Problem([2.0, 1.0], 2.0)
    flow = problem.gradient_flow(1e-3)
    table = one_sample.wide("descent")
    assert table["descent/ratio"].to_list() == list(GRID)
    assert table["descent/lr"].to_numpy() == pytest.approx(np.array(GRID) * flow.critical_lr)
    end = problem.descend(1.3 * flow.critical_lr)
    row = table.row(GRID.index(1.3), named=True)
    assert row["descent/risk"] == pytest.approx(problem.risk(end.beta, [0.5, 1.0]))
    assert row["descent/risk/norm"] == pytest.approx(problem.risk(end.beta, [1.0, 0.0]))


@pytest.mark.parametrize(
    ("claim", "part", "change"),
    [
        ("minimisers", "risk", lambda r, v: v + 10),
        ("formulas", "sharpness", lambda r, v: 1.02 * v),
        ("formulas", "squared_l2", lambda r, v: 0.8 * v if r == 1.4 else v),
        ("controls", "risk/norm", lambda r, v: abs(r - 1.3)),
        ("which", "l1", lambda r, v: r),
    ],
    ids=["minimisers", "table", "bound", "controls", "which"],
)
def test_the_claims_on_one_sample_fail_on_a_counter_example(
    one_sample: Record, tmp_path: Path, claim: str, part: str, change: object
) -> None:
    changed = Record.create(tmp_path / "changed", config=one_sample.config)
    rows = one_sample.table()
    for step in range(len(GRID)):
        here = rows.filter(step=step)
        readings = {}
        for measure, name, value in here.select("measure", "part", "value").iter_rows():
            if measure == "descent" and name == part:
                value = change(GRID[step], value)  # type: ignore[operator]
            readings.setdefault(measure, {})[name] = value
        changed.append(step, [Reading(measure, values) for measure, values in readings.items()])
    changed.set_status("finished")
    assert one(diagonal_findings({"diagonal-one-sample": changed}), DIAGONAL[claim]).verdict == "fails"


def test_several_samples_are_judged_draw_by_draw(tmp_path: Path) -> None:
    grid = (0.2, 0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 2.5)
    runs = {}
    for seed in (0, 2):
        several = DiagonalTask(f"diagonal-several-{seed}", 1.0, grid, 5, 20, seed, tol=1e-8, max_steps=100_000)
        several.run(tmp_path / several.name, quiet)
        runs[several.name] = Record.open(tmp_path / several.name)
    found = diagonal_findings(runs)
    assert one(found, "below the critical rate the flow's norm").verdict == "holds"
    # Of draw 0 the least test error is inside, of draw 2, whose target is the norm minimiser, at the flow's end.
    optimum = one(found, "least test error lies above the critical rate")
    assert optimum.verdict == "fails"
    assert optimum.why.startswith("1 of 2")
    assert optimum.measured["diagonal-several-0: best η/η_c"] == 1.2


def test_rescaling_is_judged_from_the_same_function(tmp_path: Path) -> None:
    config = RunConfig(
        data="digits:train=40,test=30",
        model="mlp:widths=6x5,activation=relu",
        lr=0.2,
        steps=40,
        measures=("loss", "sharpness", "average_sharpness", "worst_case_sharpness", "path_norm"),
        threads=1,
        path="kept",
    )
    RescalingTask("rescaled-ReLU", config, 1.0).run(tmp_path / "relu", quiet)
    bent = replace(config, model="mlp:widths=6x5,activation=tanh")
    RescalingTask("rescaled-tanh", bent, 1.0).run(tmp_path / "tanh", quiet)
    with Record.open(tmp_path / "relu") as relu, Record.open(tmp_path / "tanh") as tanh:
        assert rescaled({"rescaled-ReLU": relu}).verdict == "holds"
        assert rescaled({"rescaled-ReLU": relu}).measured["rescaled-ReLU: raw sharpness"] > 1.5
        assert rescaled({"rescaled-tanh": tanh}).verdict == "fails"  # another function, where nothing is homogeneous


@pytest.mark.parametrize("preset", FAMILIES)
def test_every_task_of_a_preset_is_a_valid_configuration(preset: str) -> None:
    from edgescope.studies import STUDIES

    tasks = tradeoff_tasks(preset, seed=3)  # type: ignore[arg-type]
    assert len({each.name for each in tasks}) == len(tasks)
    curves = [each for each in tasks if isinstance(each, CurveTask)]
    assert {min(curve.base.seed for curve in curves)} == {3}
    for curve in curves:
        assert max(curve.ratios) == 10.0
        # Of dear networks quick leaves out the lowest rates.
        assert min(curve.ratios) <= (0.1 if preset == "full" or "mlp" in curve.base.model else 0.4)
        assert curve.stacked is ("resnet" not in curve.base.model)
    found = STUDIES.build("tradeoff").records(tasks, Path("runs"))
    assert len(found) == sum(len(curve.ratios) + 1 for curve in curves) + len(tasks) - len(curves)
    assert len(set(found.values())) == len(found)
