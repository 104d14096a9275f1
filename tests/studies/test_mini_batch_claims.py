"""The verdicts of study `edge` on mini-batches and on learning rates by block, on records whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from one_claim import finding_of

from edgescope.claims import Finding, Open
from edgescope.experiments.edge.batch_runs import StepsOfRun
from edgescope.experiments.edge.mini_batch_runs import RUNS, mini_batch_tasks
from edgescope.experiments.edge.multiplier_runs import RATES, multiplier_tasks
from edgescope.experiments.edge.multiplier_task import POWERS, MultiplierTask, suggested
from edgescope.experiments.edge.settled import settled_mean, settled_ratio
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.statistics.estimate import Estimate
from edgescope.store import Record
from edgescope.studies.edge import Edge
from edgescope.studies.edge.mini_batch_figures import WITHIN, mini_batch_figures
from edgescope.studies.stated_claim import read_claims
from edgescope.training import RunConfig

LR = 0.1
Runs = dict[str, StudyRun]
Series = Callable[[int], float]


def noise(step: int, size: float = 0.02) -> float:
    """The same number for the same step, about normal, independent of the others."""
    return size * float(np.random.default_rng(step).standard_normal())


def run_of(folder: Path, role: str, batch: str, readings: Callable[[int], list[Reading]], **tags: str) -> StudyRun:
    """A run of 8,000 steps with a reading at every 100."""
    record = Record.create(folder, config={"lr": LR, "batch": None if batch == "full" else int(batch)})
    for step in range(0, 8001, 100):
        record.append(step, readings(step))
    record.set_status("finished")
    usual = {"network": "digits", "labels": "random", "lr": f"{LR:g}", "momentum": "0", "seed": "0", "optimizer": "sgd"}
    return StudyRun(folder.name, record, usual | {"role": role, "batch": batch, "samples": "96"} | tags)


def settling(weighted: Series, top: float, own: float = 1.0) -> Callable[[int], list[Reading]]:
    """Readings of R (times η), of λ_max (times η), and of the headroom used on the batch."""

    def read(step: int) -> list[Reading]:
        ratio = (weighted(step) + noise(step)) / LR
        return [
            Reading(
                "batch_sharpness", {"": 0.9 * ratio, "weighted": ratio, "square": 1 + 0.5 * noise(step + 1, 1) ** 2}
            ),
            Reading("sharpness", {"1": (top + noise(step + 13)) / LR}),
            Reading("ratio", {"": (top + noise(step + 13)) / 2}),
            Reading("headroom", {"ratio/batch": 0.45 * weighted(step) * own + noise(step + 3)}),
        ]

    return read


def steady(value: float) -> Series:
    return lambda step: value


@pytest.fixture(scope="module")
def true_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made = {
        "small": ("settling", "8", settling(steady(2.0), 1.0)),
        "large": ("settling", "16", settling(steady(2.0), 1.6)),
        "all": ("settling", "full", settling(steady(2.0), 2.02)),
    }
    folder = tmp_path_factory.mktemp("true")
    return {name: run_of(folder / name, *each) for name, each in made.items()}


@pytest.fixture
def runs(true_runs: Runs) -> Runs:
    """A copy, in which a test may replace a run."""
    return dict(true_runs)


@pytest.fixture(scope="module")
def figure_names(true_runs: Runs) -> list[str]:
    return [figure.name for figure in mini_batch_figures(true_runs)]


def finding(runs: Runs, id: str) -> Finding:
    return finding_of(Edge, runs, id)


@pytest.mark.parametrize("id", ["batch-sharpness-settles", "sharpness-falls-with-batch", "own-batch-headroom-tells"])
def test_what_is_true_of_both_batch_sizes_holds(runs: Runs, figure_names: list[str], id: str) -> None:
    found = finding(runs, id)
    assert (found.verdict, found.count.holds) == ("holds", 2)
    assert found.figure in figure_names or found.figure == "batch-headroom"


def test_a_batch_sharpness_that_settles_elsewhere_fails_and_one_that_still_rises_is_open(
    runs: Runs, tmp_path: Path
) -> None:
    runs["small"] = run_of(tmp_path / "below", "settling", "8", settling(steady(1.6), 1.0))
    found = finding(runs, "batch-sharpness-settles")
    assert (found.verdict, found.count.holds, found.count.fails) == ("mixed", 1, 1)
    runs["small"] = run_of(tmp_path / "rising", "settling", "8", settling(lambda step: 1.5 + step / 16_000, 1.0))
    (case,) = [case for case in finding(runs, "batch-sharpness-settles").cases if case.case == "rising"]
    assert case.verdict == "open"
    assert "still rising" in case.why


def test_where_gradient_descent_does_not_arrive_nothing_is_decided(runs: Runs, tmp_path: Path) -> None:
    runs["all"] = run_of(tmp_path / "early", "settling", "full", settling(steady(1.2), 1.2))
    assert finding(runs, "batch-sharpness-settles").count.open == 2
    assert finding(runs, "sharpness-falls-with-batch").count.open == 2


def test_a_sharpness_that_rises_as_batches_get_smaller_fails(runs: Runs, tmp_path: Path) -> None:
    runs["small"] = run_of(tmp_path / "sharper", "settling", "8", settling(steady(2.0), 1.9))
    found = finding(runs, "sharpness-falls-with-batch")
    assert {case.case: case.verdict for case in found.cases} == {"sharper to 16": "fails", "large to full": "holds"}


def test_own_headroom_that_differs_from_the_batch_sharpness_fails(tmp_path: Path) -> None:
    run = run_of(tmp_path / "off", "settling", "8", settling(steady(2.0), 1.0, own=1.4))
    assert finding({"off": run}, "own-batch-headroom-tells").verdict == "fails"


def with_momentum(folder: Path, batch: str, small: float, large: float) -> StudyRun:
    """Batch sharpness and λ_max over their plateaus, with β = 0.9."""

    def read(step: int) -> list[Reading]:
        sharpness = small * (1 + noise(step)) * 0.2 / LR
        return [
            Reading("batch_sharpness", {"": sharpness, "weighted": sharpness, "ratio": small, "square": 1.0}),
            Reading("sharpness", {"1": large * (1 + noise(step + 13)) * 3.8 / LR}),
        ]

    return run_of(folder, "momentum", batch, read, momentum="0.9")


def test_with_momentum_one_run_between_the_plateaus_is_enough(tmp_path: Path) -> None:
    runs = {
        "small": with_momentum(tmp_path / "small", "8", 1.0, 0.1),
        "full": with_momentum(tmp_path / "f", "full", 9, 1),
    }
    assert finding(runs, "batch-sharpness-settles-with-momentum").verdict == "holds"
    assert finding(runs, "between-the-plateaus").verdict == "fails"
    runs["between"] = with_momentum(tmp_path / "between", "32", 4.0, 0.25)
    found = finding(runs, "between-the-plateaus")
    assert (found.verdict, found.count.holds, found.count.fails) == ("holds", 1, 1)
    assert found.cases[1].value == pytest.approx(4.0, rel=0.02)
    runs["small"] = with_momentum(tmp_path / "off", "8", 1.3, 0.1)
    assert finding(runs, "batch-sharpness-settles-with-momentum").verdict == "fails"


def noisy_quadratic(folder: Path, rate: float, falls: float = 0.0) -> StudyRun:
    """SGD on w²/2 with noise in the gradients: what is recorded of each step, without a network."""
    record = Record.create(folder, config={"lr": rate, "batch": 8})
    drawn = np.random.default_rng(0)
    w = before = float(drawn.standard_normal() * math.sqrt(rate / 2))
    moved = 0.0
    for step in range(1601):
        loss = w * w / 2 * math.exp(-falls * step)
        readings = [Reading("training_loss", {"": loss})]
        if step:
            readings += [
                Reading("update_norm", {"": abs(moved)}),
                Reading("directional_smoothness", {"": 1.0, "actual": w * w / 2 - before}),
            ]
            if step % 20 == 0:
                readings += [
                    Reading("headroom", {"ratio/batch": rate / 2}),
                    Reading("batch_sharpness", {"": 1 + noise(step)}),
                ]
        record.append(step, readings)
        before, moved = w * w / 2, -rate * (w + float(drawn.standard_normal()))
        w += moved
    record.set_status("finished")
    tags = {"role": "headroom", "network": "linear", "optimizer": "sgd", "lr": f"{rate:g}", "batch": "8", "seed": "0"}
    return StudyRun(folder.name, record, tags)


def test_on_a_plateau_all_data_say_one_far_from_the_edge_and_the_batch_does_not(tmp_path: Path) -> None:
    run = noisy_quadratic(tmp_path / "quadratic", 0.4)
    steps = StepsOfRun.of(run)
    w = np.sqrt(2 * run.record.series("training_loss")[1])
    assert steps.changes.sum() == pytest.approx((w[1600] ** 2 - w[799] ** 2) / 2)
    found = finding({"one": run}, "full-batch-headroom-is-one")
    assert found.verdict == "holds"
    assert found.cases[0].beside[0].value == pytest.approx(0.2)  # a fifth of the way to the edge
    assert finding({"one": run}, "own-batch-headroom-tells").verdict == "holds"


def test_without_a_plateau_of_the_loss_the_headroom_on_all_data_is_not_judged(tmp_path: Path) -> None:
    found = finding({"one": noisy_quadratic(tmp_path / "falls", 0.1, falls=0.001)}, "full-batch-headroom-is-one")
    assert found.verdict == "open"
    assert "no plateau" in found.cases[0].why


def compared(folder: Path, seed: str, losses: dict[str, float]) -> StudyRun:
    """A task of multipliers: the best loss of each method, at the middle rate, and a worse one beside it."""
    record = Record.create(folder, config={})
    parts = {f"{name}/{RATES[5]:g}": loss for name, loss in losses.items()}
    parts |= {f"{name}/{RATES[6]:g}": 2 * loss for name, loss in losses.items()}
    record.append(10, [Reading("final_loss", parts)])
    record.set_status("finished")
    return StudyRun(folder.name, record, {"role": "multipliers", "network": "MLP", "seed": seed})


def test_rules_that_train_faster_and_slower_are_told_apart(tmp_path: Path) -> None:
    runs = {}
    for seed, plain in (("0", 1.0), ("1", 0.1), ("2", 0.5)):
        wobble = 1 + 0.02 * int(seed)
        losses = {"one rate": plain, "1/λ": 0.8 * wobble * plain, "1/√λ": 1.3 * wobble * plain}
        runs[seed] = compared(tmp_path / seed, seed, losses)
    found = finding(runs, "block-rates-train-faster")
    assert {case.case: case.verdict for case in found.cases} == {"MLP, 1/λ": "holds", "MLP, 1/√λ": "fails"}
    assert found.cases[0].value == pytest.approx(0.8 * (1.0 * 1.02 * 1.04) ** (1 / 3))
    assert "rule = 1/√λ" in found.why
    assert [figure.name for figure in mini_batch_figures(runs)] == ["block-rates"]


def test_a_best_rate_at_the_end_of_those_tried_leaves_the_case_open(tmp_path: Path) -> None:
    run = compared(tmp_path / "one", "0", {"one rate": 1.0, "1/λ": 0.5})
    run.record.append(11, [Reading("final_loss", {f"1/λ/{RATES[-1]:g}": 0.1})])
    found = finding({"one": run}, "block-rates-train-faster")
    assert [case.verdict for case in found.cases] == ["open"]
    assert found.needs == "more learning rates"


def test_multipliers_fall_with_the_sharpness_and_have_the_geometric_mean_one() -> None:
    found = suggested({"a": 16.0, "b": 1.0, "c": 0.25}, power=0.5)
    assert found["a"] * found["b"] * found["c"] == pytest.approx(1.0)
    assert found["b"] / found["a"] == pytest.approx(4.0)
    assert suggested({"a": 4.0, "b": -1.0}, power=1.0) == pytest.approx({"a": 1.0, "b": 1.0})


def test_the_task_trains_every_method_from_the_same_start(tmp_path: Path) -> None:
    config = RunConfig(data="digits:train=32", model="mlp:widths=8", batch=16, steps=6, measures=(), threads=1)
    rates = (0.01, 0.1, 1e6)
    for name in ("one", "two"):
        MultiplierTask("m", 1.0, config, rates).run(tmp_path / name, lambda *_: None)
    tables = [Record.open(tmp_path / name).table().select("part", "value").rows() for name in ("one", "two")]
    assert tables[0] == tables[1]
    losses = dict(tables[0])
    assert losses["one rate/0.1"] < losses["one rate/0.01"]
    assert "one rate/1e+06" not in losses  # diverged
    assert {part.rpartition("/")[0] for part in losses} >= {"one rate", *POWERS}


def test_a_settled_series_has_its_mean_and_a_short_one_none() -> None:
    steps = np.arange(0, 8001, 100)
    values = np.array([1.0 + noise(int(step)) for step in steps])
    found = settled_mean(steps, values)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(values[40:].mean())
    assert found.low < 1.0 < found.high
    assert isinstance(settled_mean(steps[:30], values[:30]), Open)


def test_a_ratio_of_means_weighs_its_readings_by_the_denominator() -> None:
    steps = np.arange(0, 8001, 100)
    weights = np.array([3.0 if (step // 100) % 2 else 1.0 for step in steps])
    ratios = np.where(weights == 3.0, 1.0, 2.0)
    found = settled_ratio(steps, ratios, weights)
    late = slice(40, None)
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx((ratios * weights)[late].sum() / weights[late].sum())
    assert found.value < 1.3 < settled_mean(steps, ratios).value


@pytest.mark.parametrize("preset", RUNS)
def test_every_run_of_a_preset_is_a_valid_configuration(preset: Preset) -> None:
    tasks = [*mini_batch_tasks(preset, 3), *multiplier_tasks(preset, 3)]
    assert len({task.name for task in tasks}) == len(tasks)
    roles = {"settling", "momentum", "headroom", "spike", "multipliers"}
    assert {task.tags["role"] for task in tasks} == roles
    for task in tasks:
        if "samples" in task.tags and task.tags["batch"] != "full":
            assert int(task.tags["samples"]) % int(task.tags["batch"]) == 0  # no smaller batch at the end of an epoch
            assert "method" not in task.tags  # claims about full batches select by it


def test_the_figure_shades_the_region_of_the_claim() -> None:
    region = read_claims("edge")["batch-sharpness-settles"].region
    assert (region.low, region.high) == pytest.approx((2 - 2 * WITHIN, 2 + 2 * WITHIN))
