"""Study `tradeoff`: its verdicts on records whose truth is known, and what it reads from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from one_claim import finding_of

from edgescope.claims import Finding, Open
from edgescope.experiments.study_run import Runs, StudyRun
from edgescope.experiments.tradeoff.curves import COLUMNS, LEAST, curves
from edgescope.experiments.tradeoff.over_rates import (
    TOO_FEW,
    kink,
    one_step,
    rank_trend,
    slope,
    slope_ratio,
    straightness,
)
from edgescope.measures import Reading
from edgescope.statistics.estimate import Estimate
from edgescope.store import Record
from edgescope.studies.tradeoff import Tradeoff
from edgescope.studies.tradeoff.figures import tradeoff_figures

RATIOS = (0.1, 0.4, 0.8, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)
SEEDS = (0, 1, 2)
SHARPNESS = 30.0


@dataclass(frozen=True)
class World:
    """How descent ends at a rate of ``ratio`` critical ones, as shares of what the flow ends with."""

    sharpness: Callable[[float], float] = lambda r: min(1, 1 / r)
    norm: Callable[[float], float] = lambda r: 1 + 0.05 * max(0, r - 1)
    averaged: Callable[[float], float] = lambda r: 1 + 0.04 * max(0, r - 1)
    decayed: Callable[[float], float] = lambda r: 1 + 0.04 * max(0, r - 1)
    adaptive: Callable[[float], float] = lambda r: r**-0.3
    worst: Callable[[float], float] = lambda r: r**-0.3
    test: Callable[[float], float] = lambda r: 1 + 0.3 * np.log(r / 2) ** 2
    sharpens: float = 3.0
    least: float = -0.4
    noise: float = 0.001


PAPER = World()
NO_U = replace(PAPER, test=lambda r: 1 / (1 + r))
TAGS = {
    "MLP-MSE": {"network": "MLP", "loss": "mse", "data": "fashion-5k"},
    "MLP-CE": {"network": "MLP", "loss": "cross-entropy", "data": "fashion-5k"},
    "digits-MSE": {"network": "MLP", "loss": "mse", "data": "digits"},
}


def ends(world: World, ratio: float, wobble: float = 0.0) -> dict[str, float]:
    return {
        "train_loss": 0.0499,
        "test_loss": 0.3 * (world.test(ratio) + wobble),
        "sharpness": SHARPNESS * world.sharpness(ratio),
        "l1": 500 * world.norm(ratio),
        "l2": 7 * world.norm(ratio),
        "adaptive": world.adaptive(ratio),
        "adaptive_worst": 2 * world.worst(ratio),
        "averaged_l1": 500 * world.averaged(ratio),
        "decayed_l1": 500 * world.decayed(ratio),
    }


def written(folder: Path, lr: float, steps: dict[int, dict[str, float]], how: str) -> Record:
    record = Record.create(folder, config={"stop_loss": 0.05, "lr": lr})
    for step, row in steps.items():
        readings: dict[str, dict[str, float]] = {}
        for column, value in row.items():
            measure, part = COLUMNS[column]
            readings.setdefault(measure, {})[part] = value
        events = [(how, "so it ended")] if how and step else []
        record.append(step, [Reading(measure, parts) for measure, parts in readings.items()], events)
    record.set_info("steps", max(steps))
    record.set_status("diverged" if how == "diverged" else "finished")
    return record


def curve(folder: Path, group: str, seed: int, world: World) -> Runs:
    """Gradient flow and descent of one network; the last rate diverges."""
    rng, name = np.random.default_rng(seed), f"{group}-seed{seed}"
    tags = TAGS[group] | {"varied": "none", "seed": str(seed), "group": group, "curve": name}
    start = SHARPNESS / world.sharpens
    flow = written(folder / name / "flow", 1.0, {0: {"sharpness": start}, 9: ends(PAPER, 1.0)}, "stopped")
    flow.set_info(LEAST, world.least * start)
    runs = {f"{name}/flow": StudyRun(f"{name}/flow", flow, tags | {"role": "flow"})}
    for ratio in RATIOS:
        run, lr = f"{name}/x{ratio:g}", ratio * 2 / SHARPNESS
        row = ends(world, ratio, world.noise * rng.standard_normal())
        how = "diverged" if ratio == RATIOS[-1] else "stopped"
        record = written(folder / run, lr, {7: row}, how)
        runs[run] = StudyRun(run, record, tags | {"role": "descent"})
    return runs


def study(folder: Path, worlds: dict[str, World], seeds: tuple[int, ...] = (0,)) -> Runs:
    runs: dict[str, StudyRun] = {}
    for group, world in worlds.items():
        for seed in seeds:
            runs |= curve(folder, group, seed, world)
    return runs


def finding(runs: Runs, id: str) -> Finding:
    return finding_of(Tradeoff, runs, id)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return study(tmp_path_factory.mktemp("paper"), {"MLP-MSE": NO_U, "MLP-CE": PAPER, "digits-MSE": PAPER}, SEEDS)


@pytest.fixture(scope="module")
def figure_names(paper: Runs) -> list[str]:
    return [figure.name for figure in tradeoff_figures(paper)]


OF_CURVES = [
    "sharpens",
    "largest-eigenvalue",
    "aligned-sharpness",
    "aligned-l1-norm",
    "aligned-l2-norm",
    "edge",
    "norm-grows",
    "norm-grows-linearly",
    "bends-at-critical",
    "growth-kept-averaged",
    "growth-kept-decayed",
    "average-adaptive-sharpness-falls",
    "worst-adaptive-sharpness-falls",
]
OF_NETWORKS = ["digits-mse-has-u", "images-ce-has-u", "images-mse-has-no-u", "lowest-off-least-norm"]


@pytest.mark.parametrize("id", [*OF_CURVES, *OF_NETWORKS])
def test_every_claim_holds_where_it_is_true(paper: Runs, figure_names: list[str], id: str) -> None:
    found = finding(paper, id)
    assert found.verdict == "holds"
    assert found.figure in ["", *figure_names]
    if id in OF_CURVES:
        assert found.count.holds == 9


@pytest.mark.parametrize(
    ("id", "world"),
    [
        ("sharpens", World(sharpens=1.1)),
        ("largest-eigenvalue", World(least=-1.4)),
        ("aligned-sharpness", World(sharpness=lambda r: 1 + 0.1 * r)),
        ("aligned-l1-norm", World(norm=lambda r: 1.06)),
        ("aligned-l2-norm", World(norm=lambda r: 0.94)),
        ("edge", World(sharpness=lambda r: min(1, 1 / r) * (1.2 if r > 2.5 else 1))),
        ("norm-grows", World(norm=lambda r: 2 - 0.05 * r)),
        ("norm-grows-linearly", World(norm=lambda r: 1 + 0.1 * (r in (1.1, 1.5, 3.0)) + 0.001 * r)),
        ("bends-at-critical", World(sharpness=lambda r: min(1, 2.5 / r))),
        ("growth-kept-averaged", World(averaged=lambda r: 1 + 0.02 * max(0, r - 1))),
        ("growth-kept-decayed", World(decayed=lambda r: 1 + 0.02 * max(0, r - 1))),
        ("average-adaptive-sharpness-falls", World(adaptive=lambda r: 1 + r)),
        ("worst-adaptive-sharpness-falls", World(worst=lambda r: 1 + r)),
    ],
)
def test_every_claim_about_curves_fails_on_a_counter_example(tmp_path: Path, id: str, world: World) -> None:
    assert finding(study(tmp_path, {"MLP-MSE": world}), id).verdict == "fails"


@pytest.mark.parametrize(
    ("id", "group", "world"),
    [
        ("digits-mse-has-u", "digits-MSE", NO_U),
        ("images-ce-has-u", "MLP-CE", NO_U),
        ("images-mse-has-no-u", "MLP-MSE", PAPER),
        ("lowest-off-least-norm", "MLP-CE", World(norm=lambda r: 1 + 0.05 * np.log(r / 2) ** 2)),
    ],
)
def test_every_claim_about_the_test_loss_fails_on_a_counter_example(
    tmp_path: Path, id: str, group: str, world: World
) -> None:
    assert finding(study(tmp_path, {group: world}, SEEDS), id).verdict == "fails"


def test_one_network_that_fails_makes_the_verdict_mixed_and_is_named(tmp_path: Path) -> None:
    flat = replace(PAPER, sharpness=lambda r: 1.0)
    found = finding(study(tmp_path, {"MLP-MSE": PAPER, "MLP-CE": flat}, (0, 1)), "edge")
    assert (found.verdict, found.count.holds, found.count.fails) == ("mixed", 2, 2)
    assert "fails under loss = cross-entropy" in found.why


def test_without_growth_there_is_no_oscillation_to_judge(tmp_path: Path) -> None:
    found = finding(study(tmp_path, {"MLP-MSE": replace(PAPER, norm=lambda r: 2 - 0.05 * r)}), "growth-kept-averaged")
    assert found.verdict == "open"
    assert "nothing grows" in found.why


def test_a_network_that_does_not_sharpen_is_left_out_of_the_claims_about_the_edge(tmp_path: Path) -> None:
    runs = study(tmp_path, {"MLP-MSE": PAPER, "digits-MSE": World(sharpness=lambda r: 1.0, sharpens=1.05)})
    assert finding(runs, "sharpens").verdict == "mixed"
    for id in ("edge", "norm-grows", "bends-at-critical", "growth-kept-decayed", "average-adaptive-sharpness-falls"):
        assert list(finding(runs, id).measured) == ["MLP-MSE-seed0"]
    assert len(finding(runs, "aligned-sharpness").cases) == 2


def test_a_valley_no_deeper_than_seeds_differ_is_open(tmp_path: Path) -> None:
    flat = replace(PAPER, test=lambda r: 1 + 0.001 * np.log(r / 2) ** 2, noise=0.05)
    runs = study(tmp_path, {"MLP-CE": flat}, SEEDS)
    assert finding(runs, "images-ce-has-u").verdict == "open"
    assert "tell from chance" in finding(runs, "lowest-off-least-norm").why


def test_one_seed_decides_nothing_about_the_test_loss(tmp_path: Path) -> None:
    runs = study(tmp_path, {"MLP-CE": PAPER})
    assert finding(runs, "images-ce-has-u").verdict == "open"
    assert finding(runs, "lowest-off-least-norm").needs == "more seeds"


def test_a_network_without_a_valley_says_nothing_about_where_it_lies(tmp_path: Path) -> None:
    assert finding(study(tmp_path, {"MLP-MSE": NO_U}, SEEDS), "lowest-off-least-norm").cases == ()


def test_where_the_edge_is_left_is_told(tmp_path: Path) -> None:
    leaves = replace(PAPER, sharpness=lambda r: min(1, 1 / r) * (1.2 if r > 2.5 else 1))
    (case,) = finding(study(tmp_path, {"MLP-MSE": leaves}), "edge").cases
    beside = {row.quantity: row.value for row in case.beside}
    assert case.value == pytest.approx(0.2)
    assert beside["all within 10% up to η/η_c"] == pytest.approx(2.0)
    assert beside["share of learning rates within 10%"] == pytest.approx(4 / 6)


def test_a_curve_is_read_from_its_records_and_drawn(tmp_path: Path) -> None:
    runs = dict(curve(tmp_path, "MLP-MSE", 0, PAPER))
    late = {"train_loss": 0.07, "test_loss": 0.4, "sharpness": 5.0}
    record = written(tmp_path / "late", 5 * 2 / SHARPNESS, {400: late}, "")
    runs["late"] = StudyRun("late", record, runs["MLP-MSE-seed0/x3"].tags)
    (item,) = curves()(runs)
    found = item.value
    assert (found.name, found.threshold, found.flow_reached) == ("MLP-MSE-seed0", 0.05, True)
    assert (found.start, found.least, found.highest) == (10.0, -4.0, 30.0)
    assert found.flow == ends(PAPER, 1.0)
    assert found.table["status"].to_list() == ["reached"] * 10 + ["unfinished", "diverged"]
    assert found.table["ratio"].to_list() == pytest.approx([*RATIOS[:-1], 5.0, 8.0])
    assert found.reached.height == 10
    assert found.reached["l1"].to_list() == [500 * PAPER.norm(ratio) for ratio in RATIOS[:-1]]
    assert found.table["test_loss"][10] == 0.4
    assert [figure.name for figure in tradeoff_figures(runs)] == ["tradeoff-mlp-mse", "networks", "objections"]


def test_without_runs_every_claim_is_open() -> None:
    assert {found.verdict for found in Tradeoff().findings({})} == {"open"}


@pytest.mark.parametrize("place", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("power", [-1.0, 0.4])
def test_the_bend_of_a_broken_line_is_found_within_its_interval(place: float, power: float) -> None:
    x = np.geomspace(0.1, 10, 19)
    y = 5 * np.maximum(x / place, 1) ** power
    assert kink(x, y).value == pytest.approx(place, rel=0.01)
    noisy = kink(x, y * np.exp(0.01 * np.random.default_rng(0).standard_normal(19)))
    assert noisy.value == pytest.approx(place, rel=0.1)
    assert noisy.low <= place <= noisy.high < 1.2 * noisy.low


def test_the_interval_of_a_bend_holds_its_place_about_as_often_as_it_says() -> None:
    rng, x = np.random.default_rng(2), np.geomspace(0.1, 10, 15)
    found = [kink(x, np.maximum(x, 1) ** -1 * np.exp(0.1 * rng.standard_normal(15))) for _ in range(60)]
    assert sum(one.low <= 1 <= one.high for one in found) >= 52  # of 57 expected


def test_without_a_bend_there_is_none() -> None:
    x = np.geomspace(0.1, 10, 19)
    assert not kink(x, np.full(19, 2.0)).known
    assert not kink(x[:3], x[:3]).known
    assert not kink(x, np.exp(np.random.default_rng(1).standard_normal(19))).known
    assert one_step(np.array([0.5, 0.8, 1.0, 1.1])) == pytest.approx(1.25)
    assert one_step(np.array([0.8, 1.2])) == pytest.approx(1.5)
    assert one_step(np.array([2.0, 3.0])) == np.inf


def test_lines_are_those_of_least_squares() -> None:
    rng, x = np.random.default_rng(0), np.linspace(1, 4, 12)
    y = 2 * x + 0.3 * rng.standard_normal(12)
    line, straight = slope(x, y), straightness(x, y)
    assert isinstance(line, Estimate)
    assert isinstance(straight, Estimate)
    assert line.value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert straight.value == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert 0.8 < straight.low < straight.value < straight.high < 1
    for statistic in (slope, straightness, rank_trend):
        assert statistic(x[:3], y[:3]) is TOO_FEW
    assert isinstance(slope(x, np.ones(12)), Open)


def test_intervals_of_slopes_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, x = np.random.default_rng(0), np.linspace(1, 4, 12)
    held = {"slope": 0, "ratio": 0}
    for _ in range(60):
        y, half = (factor * x + 0.3 * rng.standard_normal(12) for factor in (2.0, 1.0))
        for name, found, truth in (("slope", slope(x, y), 2.0), ("ratio", slope_ratio(x, half, y), 0.5)):
            assert isinstance(found, Estimate)
            held[name] += found.low <= truth <= found.high < found.low + 1
    assert held["slope"] >= 52  # of 57 expected
    assert held["ratio"] >= 48  # the bootstrap of few points holds it less often
