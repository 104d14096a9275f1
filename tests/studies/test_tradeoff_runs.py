"""Study `tradeoff`: its tasks, carried out small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from one_claim import finding_of

from edgescope.claims import Finding
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.experiments.tradeoff.curve_task import CurveTask
from edgescope.experiments.tradeoff.curves import LEAST, Curve, curves
from edgescope.experiments.tradeoff.diagonal_task import DiagonalTask
from edgescope.experiments.tradeoff.rescaling_task import RescalingTask
from edgescope.experiments.tradeoff.runs import FAMILIES, tradeoff_tasks
from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.studies.tradeoff import Tradeoff
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


Change = Callable[[float, float], float]


def quiet(share: float, words: str) -> None:
    pass


def task(stacked: bool, model: str = "mlp:widths=5,activation=relu", **more: object) -> CurveTask:
    base = replace(BASE, model=model, **more)  # type: ignore[arg-type]
    return CurveTask("MLP-MSE-seed3", 1.0, base, (0.5, 1.5, 10.0), stacked, tags={"curve": "MLP-MSE-seed3"})


def curve_of(folder: Path, of: CurveTask) -> Curve:
    """The only curve, from the records that the task left in its folder."""
    there = [entry for entry in of.entries() if (folder / Path(entry.folder).name).exists()]
    runs = {e.name: StudyRun(e.name, Record.open(folder / Path(e.folder).name), e.tags) for e in there}
    for run in runs.values():
        assert run.record.tags.items() <= run.tags.items()
    (item,) = curves()(runs)
    return item.value


def finding(runs: Runs, id: str) -> Finding:
    return finding_of(Tradeoff, runs, id)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_curve_is_flow_and_descent_at_multiples_of_its_critical_rate(tmp_path: Path, stacked: bool) -> None:
    task(stacked).run(tmp_path, quiet)
    curve = curve_of(tmp_path, task(stacked))
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
    curve = curve_of(tmp_path, curve_task)
    assert curve.table["status"].to_list() == ["reached"]
    assert curve.table["l2"][0] == pytest.approx(curve.flow["l2"], rel=0.05)


def test_where_the_flow_does_not_arrive_nothing_else_is_run(tmp_path: Path) -> None:
    short = replace(task(True), flow_steps=5)
    short.run(tmp_path, quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow"]
    curve = curve_of(tmp_path, short)
    assert not curve.flow_reached
    assert curve.table.height == 0


GRID = (0.1, 0.4, 0.6, 0.8, 1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.95, 2.5)


@pytest.fixture(scope="module")
def one_sample(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("one")
    DiagonalTask("diagonal-one-sample", 1.0, GRID).run(folder, quiet)
    return Record.open(folder)


def as_one(record: Record) -> Runs:
    return {"one": StudyRun("one", record, {"role": "diagonal", "samples": "one"})}


ONE_SAMPLE = [
    "minimisers-differ",
    "best-inside",
    "best-below-both",
    "table",
    "convergence",
    "late-gap",
    "least-product",
    "largest-rate",
    "l2-grows",
    "l1-rises-and-falls",
    "controls",
]


@pytest.mark.parametrize("claim", ONE_SAMPLE)
def test_the_claims_on_one_sample_hold(one_sample: Record, claim: str) -> None:
    assert finding(as_one(one_sample), f"one-sample-{claim}").verdict == "holds"


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


def changed(one_sample: Record, folder: Path, measure: str, part: str, change: Change) -> Record:
    """The record with one of its readings as ``change`` has it, from the rate and the value."""
    record = Record.create(folder, config=one_sample.config)
    rows = one_sample.table()
    for step, ratio in enumerate(GRID):
        readings: dict[str, dict[str, float]] = {}
        for name, of, value in rows.filter(step=step).select("measure", "part", "value").iter_rows():
            readings.setdefault(name, {})[of] = change(ratio, value) if (name, of) == (measure, part) else value
        record.append(step, [Reading(name, values) for name, values in readings.items()])
    record.set_status("finished")
    return record


@pytest.mark.parametrize(
    ("claim", "measure", "part", "change"),
    [
        ("minimisers-differ", "theory", "norm/sharpness", lambda r, v: 8.0),
        ("minimisers-differ", "theory", "sharpness/squared_l2", lambda r, v: 1.0),
        ("best-inside", "descent", "risk", lambda r, v: 2 - r),
        ("best-inside", "descent", "risk", lambda r, v: r),
        ("best-below-both", "descent", "risk", lambda r, v: v + 10),
        ("table", "descent", "sharpness", lambda r, v: 1.02 * v),
        ("table", "flow", "critical_lr", lambda r, v: 1.002 * v),
        ("convergence", "descent", "status", lambda r, v: 0.0),
        ("convergence", "descent", "status", lambda r, v: 1.0 if r == 1.8 else v),
        ("late-gap", "descent", "sharpness", lambda r, v: 0.9 * v),
        ("least-product", "descent", "squared_l2", lambda r, v: 0.8 * v if r == 1.4 else v),
        ("largest-rate", "theory", "largest_stable_lr", lambda r, v: 0.8 * v),
        ("l2-grows", "descent", "squared_l2", lambda r, v: 1.0 if r == 1.4 else v),
        ("l1-rises-and-falls", "descent", "l1", lambda r, v: r),
        ("controls", "descent", "risk/norm", lambda r, v: abs(r - 1.3)),
        ("controls", "descent", "risk/sharpness", lambda r, v: abs(r - 1.3)),
    ],
)
def test_the_claims_on_one_sample_fail_on_a_counter_example(
    one_sample: Record, tmp_path: Path, claim: str, measure: str, part: str, change: Change
) -> None:
    record = changed(one_sample, tmp_path / "changed", measure, part, change)
    found = finding(as_one(record), f"one-sample-{claim}")
    assert (found.verdict, found.count.fails >= 1) == ("fails", True)


def test_what_was_not_run_or_did_not_converge_is_open(one_sample: Record, tmp_path: Path) -> None:
    record = changed(one_sample, tmp_path / "lost", "descent", "status", lambda r, v: 1.0)
    for claim in ("best-inside", "late-gap", "least-product", "l2-grows", "l1-rises-and-falls", "controls"):
        assert finding(as_one(record), f"one-sample-{claim}").verdict == "open"
    assert finding(as_one(record), "one-sample-table").verdict == "fails"


SEVERAL = ("aligned", "edge", "norm-grows", "best-inside", "gains")


def test_several_samples_are_judged_draw_by_draw(tmp_path: Path) -> None:
    grid = (0.2, 0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 2.5)
    runs = {}
    for seed in (0, 2):
        several = DiagonalTask(f"draw {seed}", 1.0, grid, 5, 20, seed, tol=1e-8, max_steps=100_000)
        several.run(tmp_path / several.name, quiet)
        tags = {"role": "diagonal", "samples": "several", "seed": str(seed)}
        runs[several.name] = StudyRun(several.name, Record.open(tmp_path / several.name), tags)
    found = {claim: finding(runs, f"several-samples-{claim}") for claim in SEVERAL}
    for claim in ("aligned", "edge", "norm-grows"):
        assert (found[claim].verdict, found[claim].count.holds) == ("holds", 2)
    # Of draw 0 the least test error is inside, of draw 2, whose target is the norm minimiser, at the flow's end.
    assert found["best-inside"].verdict == "mixed"
    assert found["best-inside"].measured == {"draw 0": 2, "draw 2": 0}
    assert found["best-inside"].cases[0].beside[0].value == 1.2
    # The same descents as a counter-example: their flow is that of another network.
    for part, claim in (("squared_l2_norm", "aligned"), ("squared_l2_norm", "norm-grows"), ("risk", "gains")):
        record = Record.create(tmp_path / f"{part} {claim}", config={})
        for step in range(len(grid)):
            readings: dict[str, dict[str, float]] = {}
            for name, of, value in runs["draw 0"].record.table().filter(step=step)["measure", "part", "value"].rows():
                factor = (0.1 if part == "risk" else 10) if (name, of) == ("flow", part) else 1
                readings.setdefault(name, {})[of] = factor * value
            record.append(step, [Reading(name, values) for name, values in readings.items()])
        other = {"other": StudyRun("other", record, runs["draw 0"].tags)}
        assert finding(other, f"several-samples-{claim}").verdict == "fails"


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
    RescalingTask("relu", config, 1.0).run(tmp_path / "relu", quiet)
    bent = replace(config, model="mlp:widths=6x5,activation=tanh")
    RescalingTask("tanh", bent, 1.0).run(tmp_path / "tanh", quiet)
    runs = {name: StudyRun(name, Record.open(tmp_path / name), {"role": "rescaled"}) for name in ("relu", "tanh")}
    relu, tanh = ({name: run} for name, run in runs.items())
    for claim in ("keeps-function", "changes-sharpness", "keeps-adaptive"):
        assert finding(relu, f"rescaling-{claim}").verdict == "holds"
    assert finding(relu, "rescaling-keeps-adaptive").count.holds == 3
    # Another function, where nothing is homogeneous.
    assert finding(tanh, "rescaling-keeps-function").verdict == "fails"
    assert finding(tanh, "rescaling-keeps-adaptive").count.fails >= 1


def test_rescaling_that_leaves_the_sharpness_is_a_counter_example(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "same", config={})
    for step in range(2):
        record.append(step, [Reading("sharpness", {"1": 3.0})])
    runs = {"same": StudyRun("same", record, {"role": "rescaled"})}
    assert finding(runs, "rescaling-changes-sharpness").verdict == "fails"


@pytest.mark.parametrize("preset", FAMILIES)
def test_every_task_of_a_preset_is_a_valid_configuration(preset: Preset) -> None:
    tasks = tradeoff_tasks(preset, seed=3)
    assert len({each.name for each in tasks}) == len(tasks)
    found = [each for each in tasks if isinstance(each, CurveTask)]
    assert {min(each.base.seed for each in found)} == {3}
    for each in found:
        assert max(each.ratios) == 10.0
        assert 1.0 in each.ratios
        # Of networks with costly gradients quick leaves out the lowest rates.
        assert min(each.ratios) <= (0.1 if preset != "quick" or "mlp" in each.base.model else 0.4)
        assert each.stacked is ("resnet" not in each.base.model)
        assert each.cost > 0
    entries = Tradeoff().entries(tasks)
    assert len(entries) == sum(len(each.ratios) + 1 for each in found) + len(tasks) - len(found)
    assert len({entry.name for entry in entries}) == len({entry.folder for entry in entries}) == len(entries)
    assert {entry.tags["role"] for entry in entries} == {"flow", "descent", "diagonal", "rescaled"}


def test_the_paper_s_networks_and_data_are_those_that_are_known() -> None:
    found = [each for each in tradeoff_tasks("paper", seed=0) if isinstance(each, CurveTask)]
    assert {each.tags["data"] for each in found} == {"cifar10-5k", "mnist"}
    assert {each.tags["network"] for each in found} == {"MLP", "CNN", "ResNet", "ViT"}
    for network in ("MLP", "CNN", "ResNet", "ViT"):
        plain = [each for each in found if each.tags["network"] == network and each.tags["varied"] == "none"]
        assert {each.tags["loss"] for each in plain} == {"mse", "cross-entropy"}
    assert len(Tradeoff.unknown) >= 4


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of attention in stacked training
@pytest.mark.parametrize("network", ["MLP", "CNN", "ResNet", "ViT"])
def test_the_paper_s_curves_are_carried_out_on_tiny_replacements(tmp_path: Path, network: str) -> None:
    every = [each for each in tradeoff_tasks("paper", seed=0) if isinstance(each, CurveTask)]
    first = next(each for each in every if each.tags["network"] == network)
    tiny = {"MLP": "mlp:widths=4", "CNN": "cnn:channels=2", "ResNet": "resnet:widths=2", "ViT": "vit:width=4,heads=2"}
    base = replace(first.base, data="digits:train=20,test=10", model=tiny[network], stop_loss=0.449)
    small = replace(first, base=base, ratios=(0.5,))
    small.run(tmp_path, quiet)
    curve = curve_of(tmp_path, small)
    assert curve.flow_reached
    assert curve.table["status"].to_list() == ["reached"]
