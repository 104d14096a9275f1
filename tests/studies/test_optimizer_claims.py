"""The verdicts of study `edge` on optimizers as they are used, on records made by hand, whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_claim import finding_of

from edgescope.claims import Finding, Open, Region
from edgescope.experiments.edge.optimizer_runs import OPTIMIZER_SETTINGS, optimizer_tasks
from edgescope.experiments.edge.own_edges import over_sam_edge
from edgescope.experiments.edge.settled_headroom import settled_headroom
from edgescope.experiments.preset import Preset
from edgescope.experiments.study_run import StudyRun
from edgescope.figures.ratio import NEAR
from edgescope.measures import Reading
from edgescope.optim import SAM, rule_for
from edgescope.progress import no_progress
from edgescope.store import Record
from edgescope.studies import STUDIES
from edgescope.studies.edge import Edge
from edgescope.studies.edge.optimizer_figures import optimizer_figures
from edgescope.studies.stated_claim import read_claims
from edgescope.sweep.plan import plan_tasks

LR, RHO, STEPS, EVERY = 0.1, 0.05, 800, 5
Series = Callable[[np.ndarray], np.ndarray]


def settles_at(level: float, swing: float = 0.03) -> Series:
    """Rises to ``level`` by step 200, then swings around it."""

    def series(step: np.ndarray) -> np.ndarray:
        draws = np.random.default_rng(0).uniform(-swing, swing, STEPS + 1)
        return np.where(step <= 200, level * step / 200, level + draws[step])

    return series


AT_EDGE = settles_at(1.0)


def norm(step: int) -> float:
    return 0.1 + step / 4000


def sam_edge(step: int) -> float:
    """The h with h (1 + rho h/|g|) = 2/eta, by the formula for roots."""
    return float(max(np.roots([RHO / norm(step), 1.0, -2 / LR]).real))


def run_of(
    folder: Path,
    method: str,
    optimizer: str,
    headroom: Series | None = AT_EDGE,
    ratio: Series | None = AT_EDGE,
    sharpness: Callable[[int], float] = lambda step: 40.0,
) -> StudyRun:
    """A run with one over the headroom, the ratio and its parts, and the sharpness as given."""
    config: dict[str, Any] = {"lr": LR, "optimizer": optimizer}
    record = Record.create(folder, config=config)
    steps = np.arange(STEPS + 1)
    for step in range(0, STEPS + 1, EVERY):
        readings = [
            Reading("training_loss", {"": float(np.exp(-step / 400))}),
            Reading("gradient_norm", {"": norm(step)}),
            Reading("sharpness", {"1": sharpness(step)}),
        ]
        if headroom is not None:
            readings.append(Reading("headroom", {"ratio": float(headroom(steps)[step])}))
        if ratio is not None:
            value = float(ratio(steps)[step])
            readings.append(Reading("ratio", {"": value, "SGD": 0.6 * value, "AdamW": 0.8 * value}))
        record.append(step, readings)
    record.set_status("finished")
    return StudyRun(folder.name, record, {"method": method, "network": "MLP"})


def finding(run: StudyRun, id: str) -> Finding:
    return finding_of(Edge, {run.name: run}, id)


SPECS = {
    "nadam": "nadam",
    "lion": "lion",
    "muon+adamw": "muon+adamw:lr=0.003",
    "polyak+adamw": "sgd:momentum=0.9+adamw",
    "sam": f"sam:rho={RHO}",
    "clipped": "sgd",
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "nadam-settles": ("nadam", {}, {"ratio": settles_at(1.2)}),
    "pair-settles": ("polyak+adamw", {}, {"ratio": lambda s: np.where(s == 200, 1.0, settles_at(0.8)(s))}),
    "sam-settles": ("sam", {"sharpness": sam_edge}, {"sharpness": lambda s: 1.2 * sam_edge(s)}),
    "clipped-settles": ("clipped", {}, {"ratio": settles_at(1.2)}),
    "clipped-exceeds": ("clipped", {}, {"sharpness": lambda s: 40.0 if s < 700 else 21.0}),
    "muon-exceeds": ("muon+adamw", {"ratio": settles_at(30.0)}, {}),
    "lion-headroom": ("lion", {"ratio": None}, {"headroom": lambda s: np.where(s == 200, 1.0, settles_at(0.7)(s))}),
    "muon-headroom": ("muon+adamw", {}, {"headroom": settles_at(1.3)}),
    "headroom-settles": ("sam", {}, {"headroom": settles_at(1.3)}),
}
"""Of each claim the method, what makes it hold, and what makes it fail."""


@pytest.mark.parametrize("id", CASES)
def test_a_claim_holds_where_it_is_true_and_fails_on_a_counter_example(id: str, tmp_path: Path) -> None:
    method, true, wrong = CASES[id]
    found = finding(run_of(tmp_path / "true", method, SPECS[method], **true), id)
    assert (found.verdict, found.count.holds) == ("holds", 1)
    assert finding(run_of(tmp_path / "wrong", method, SPECS[method], **wrong), id).verdict == "fails"


@pytest.mark.parametrize("id", CASES)
def test_a_run_that_never_arrives_is_open_and_says_why(id: str, tmp_path: Path) -> None:
    method = CASES[id][0]
    low = settles_at(0.6)
    run = run_of(tmp_path / "low", method, SPECS[method], headroom=low, ratio=low, sharpness=lambda s: 1 + s / 1000)
    found = finding(run, id)
    assert found.verdict == "open"
    assert found.cases[0].why
    assert found.cases[0].needs


def test_beside_the_joint_ratio_stands_that_of_each_optimizer(tmp_path: Path) -> None:
    found = finding(run_of(tmp_path / "pair", "polyak+adamw", SPECS["polyak+adamw"]), "pair-settles")
    values = {row.quantity: row.value for row in found.cases[0].beside}
    assert values["ratio of SGD alone, mean"] == pytest.approx(0.6, abs=0.02)
    assert values["ratio of AdamW alone, mean"] == pytest.approx(0.8, abs=0.02)


def test_readings_before_the_loss_rises_behind_a_step_and_the_first_half_after_are_left_out(tmp_path: Path) -> None:
    def slow(step: np.ndarray) -> np.ndarray:
        return np.where(step < 200, 0.0, np.where(step < 500, 0.9, 1.0 + 1e-3 * (step % 10)))

    late = settled_headroom(run_of(tmp_path / "slow", "lion", "lion", headroom=slow))
    assert not isinstance(late, Open)
    assert late.min() >= 1.0
    assert late.size == 61


def test_too_few_readings_are_open_with_how_many_steps_are_missing(tmp_path: Path) -> None:
    late = settled_headroom(
        run_of(tmp_path / "late", "lion", "lion", headroom=lambda s: np.where(s < 700, 0.1, 1.0 + 0 * s))
    )
    assert isinstance(late, Open)
    assert "21 readings after arrival, 40 needed" in late.why
    assert "95 more steps" in late.needs


def test_the_edge_of_sam_is_that_of_its_rule(tmp_path: Path) -> None:
    run = run_of(tmp_path / "sam", "sam", SPECS["sam"], sharpness=lambda step: 7.0)
    series = over_sam_edge(run)
    p = torch.zeros(2, requires_grad=True)
    threshold = rule_for(SAM([p], torch.optim.SGD, lr=LR, rho=RHO), [p]).threshold()
    expected = [7.0 / threshold.at(torch.tensor([0.0, norm(step)])) for step in series.steps.tolist()]
    assert series.ratio == pytest.approx(expected, rel=1e-6)


def test_one_figure_has_a_panel_for_every_run(tmp_path: Path) -> None:
    runs = {}
    for method, spec in SPECS.items():
        ratio = None if method in ("lion", "sam") else AT_EDGE
        runs[method] = run_of(tmp_path / method.replace("+", "-"), method, spec, ratio=ratio)
    (figure,) = optimizer_figures(runs)
    claims = read_claims("edge")
    assert {claims[id].figure for id in CASES} == {figure.name}
    panels = figure.chart.to_dict()["concat"]
    assert [panel["title"]["text"].split(" (")[0] for panel in panels] == [
        "nadam",
        "polyak-adamw",
        "sam",
        "clipped",
        "lion",
        "muon-adamw",
    ]
    assert optimizer_figures({}) == []


@pytest.mark.parametrize("id", [id for id in CASES if "exceeds" not in id])
def test_the_figure_shades_the_region_of_the_claims(id: str) -> None:
    assert read_claims("edge")[id].region == Region.around(1.0, NEAR)


@pytest.mark.parametrize("preset", OPTIMIZER_SETTINGS)
def test_every_run_of_a_preset_is_a_valid_configuration_among_the_tasks_of_the_study(preset: Preset) -> None:
    tasks = optimizer_tasks(preset, seed=3)
    assert {task.tags["method"] for task in tasks} == set(SPECS)
    assert {task.config.seed for task in tasks} == {3}
    everything = Edge().tasks(preset, 3)
    assert [task for task in everything if task in tasks] == tasks
    assert len({task.name for task in everything}) == len(everything)


def test_a_dry_run_plans_them_and_says_what_is_not_known() -> None:
    plans = plan_tasks(optimizer_tasks("quick", 0)[:2], None, no_progress)
    assert all(plan.steps and plan.seconds for plan in plans)
    assert any("Long and Bartlett" in line for line in STUDIES["edge"].unknown)
