"""The verdicts of study `central`, on records made by hand whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_claim import finding_of

from edgescope.claims import Finding
from edgescope.experiments.central.compared_run import magnitude, quotient
from edgescope.experiments.central.flow_task import START
from edgescope.experiments.central.gap_terms import MEASURE
from edgescope.experiments.study_run import StudyRun
from edgescope.measures import Reading
from edgescope.statistics.estimate import Estimate
from edgescope.store import Record
from edgescope.studies.central import Central
from edgescope.studies.central.figures import central_figures
from edgescope.studies.stated_claim import read_claims

STEPS, FROM, BLOCK = 120, 40, 10
FLOWS = {"gd": ("stable", "central", "corrected"), "momentum": ("stable", "central"), "rmsprop": ("stable", "central")}
FLOWS |= {"linf": ("stable", "two-point", "multiplier"), "spectral": ("stable", "two-point")}

TRUE: dict[str, float] = {
    "distance/stable": 0.5,
    "distance/central": 0.09,
    "distance/corrected": 0.04,
    "distance/two-point": 0.1,
    "distance/multiplier": 0.1,
    "loss/predicted": 1.01,
    "loss/stable": 0.8,
    "square/predicted": 1.02,
    "square/stable": 0.01,
    "variance": 1.05,
    "sharpness/flow": 1.0005,
    "sharpness/midpoint": 1.003,
    "preconditioner": 1.005,
    "locked": 0.9,
    "rise": -0.01,
}
"""What a run shows where every claim is true: distances, and ratios of what is predicted to what is measured."""


def run_of(folder: Path, method: str, start: int | None = 0, **changed: float) -> StudyRun:
    """A run of this method with its flows; ``changed`` replaces entries of ``TRUE``, with _ for /."""
    shown = TRUE | {name.replace("_", "/"): value for name, value in changed.items()}
    flows = FLOWS[method]
    config: dict[str, Any] = {"flows": dict.fromkeys(flows, 2), "average_from": FROM, "block": BLOCK, "lr": 0.4}
    record = Record.create(folder, config=config)
    record.set_info(START, start)
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, STEPS + 1)
    for time in range(1, STEPS + 1):
        mean = math.exp(-time / 100)
        level = mean * (1 + noise[time])
        loss = {"optimizer": level, "stable": shown["loss/stable"] * mean}
        square = {"optimizer": level, "stable": shown["square/stable"] * mean}
        sharpness, preconditioner = {"optimizer": shown["sharpness/midpoint"] + noise[time]}, {"optimizer": level}
        variance, distance = {}, {name: shown[f"distance/{name}"] * time / STEPS for name in flows}
        for name in flows[1:]:
            loss |= {name: math.exp(shown["rise"] * time), f"{name}/predicted": shown["loss/predicted"] * mean}
            square[f"{name}/predicted"] = shown["square/predicted"] * mean
            sharpness[name] = shown["sharpness/flow"]
            variance |= {f"{name}/1": level, f"{name}/1/predicted": shown["variance"] * mean}
            preconditioner[name] = shown["preconditioner"] * mean
        readings = [Reading("flow_loss", loss), Reading("flow_gradient_square", square)]
        readings += [Reading("flow_sharpness", sharpness), Reading("flow_variance", variance)]
        readings += [Reading("flow_distance", distance), Reading("flow_output_distance", distance)]
        readings += [Reading("flow_preconditioner", preconditioner), Reading("locked", {"": shown["locked"]})]
        record.append((start or 0) + time, readings)
    record.set_status("finished")
    return StudyRun(folder.name, record, {"kind": "flows", "method": method, "data": "digits", "seed": "3"})


def gap_runs(folder: Path, **gaps: float) -> dict[str, StudyRun]:
    """SGD on all data and on both batch sizes, with a formula of 0.05."""
    runs = {}
    for batch, gap in gaps.items():
        record = Record.create(folder / batch, config={"lr": 0.4})
        for place, noise in enumerate(np.random.default_rng(1).uniform(-0.002, 0.002, 40)):
            # The formula is 0.4 · 2 · 0.5 / (4 · 2) = 0.05.
            values = {"measured": gap + noise, "alpha": 2.0, "beta": 2.0, "noise": 0.5, "curvature_noise": 0.01}
            record.append(25 * place, [Reading(MEASURE, values)])
        record.set_status("finished")
        runs[batch] = StudyRun(batch, record, {"kind": "gap", "batch": batch, "group": "digits-3"})
    return runs


def finding(runs: Mapping[str, StudyRun], id: str) -> Finding:
    return finding_of(Central, runs, id)


CASES: dict[str, tuple[str, dict[str, float]]] = {
    "gd-follows": ("gd", {"distance_central": 0.4}),
    "gd-corrected": ("gd", {"distance_corrected": 0.2}),
    "correction-halves": ("gd", {"distance_corrected": 0.05}),
    "gd-within-threshold": ("gd", {"sharpness_flow": 1.003}),
    "gd-midpoints-at-threshold": ("gd", {"sharpness_midpoint": 1.1}),
    "gd-loss-falls": ("gd", {"rise": 1e-4}),
    "gd-loss": ("gd", {"loss_predicted": 1.06}),
    "flow-misses-loss": ("gd", {"loss_stable": 0.99}),
    "gd-gradient-square": ("gd", {"square_predicted": 0.8}),
    "flow-misses-gradient-square": ("gd", {"square_stable": 0.1}),
    "gd-covariance": ("gd", {"variance": 1.5}),
    "momentum-follows": ("momentum", {"distance_central": 0.4}),
    "momentum-loss": ("momentum", {"loss_predicted": 1.06}),
    "rmsprop-follows": ("rmsprop", {"distance_central": 0.2}),
    "rmsprop-loss": ("rmsprop", {"loss_predicted": 1.05}),
    "rmsprop-preconditioner": ("rmsprop", {"preconditioner": 0.9}),
    "two-point-follows": ("spectral", {"distance_two-point": 0.3}),
    "two-point-loss": ("spectral", {"loss_predicted": 1.15}),
    "multiplier-linf": ("linf", {"distance_multiplier": 0.5}),
    "linf-locks": ("linf", {"locked": 0.5}),
}
"""Of each claim the method, and what makes it fail."""


@pytest.mark.parametrize("id", CASES)
def test_a_claim_holds_where_it_is_true_and_fails_on_a_counter_example(id: str, tmp_path: Path) -> None:
    method, wrong = CASES[id]
    run = run_of(tmp_path / "true", method)
    found = finding({run.name: run}, id)
    assert (found.verdict, found.count.holds) == ("holds", 1)
    run = run_of(tmp_path / "wrong", method, **wrong)
    assert finding({run.name: run}, id).verdict == "fails"


def test_every_claim_about_flows_is_tested_here() -> None:
    assert set(read_claims("central")) == {*CASES, "gap-half", "gap-quarter"}


@pytest.mark.parametrize("id", [id for id, (method, _) in CASES.items() if method in ("gd", "rmsprop", "momentum")])
def test_a_flow_that_is_not_at_its_threshold_leaves_a_claim_open(id: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "low", CASES[id][0], sharpness_flow=0.7, sharpness_midpoint=0.7)
    found = finding({run.name: run}, id)
    assert found.verdict == "open"
    assert "threshold" in found.cases[0].why


@pytest.mark.parametrize("id", ["two-point-follows", "two-point-loss", "multiplier-linf", "linf-locks"])
def test_a_run_that_never_oscillates_is_open(id: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "calm", "linf", start=None)
    found = finding({run.name: run}, id)
    assert found.verdict == "open"
    assert "never began to alternate" in found.cases[0].why


def test_a_trend_that_prediction_and_optimizer_share_does_not_widen_the_interval(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "gd")
    (case,) = finding({run.name: run}, "gd-loss").cases
    assert case.value == pytest.approx(1.01, abs=0.005)
    assert case.high - case.low < 0.01


def test_averages_leave_out_the_steps_before_and_the_steps_of_the_optimizer_alone(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "spectral", start=7)
    before = finding({run.name: run}, "two-point-loss").cases[0].value
    run.record.append(7 + 10, [Reading("flow_loss", {"optimizer": 99.0, "two-point/predicted": 1.0, "stable": 1.0})])
    run.record.append(7 + STEPS + 1, [Reading("flow_loss", {"optimizer": 99.0})])
    assert finding({run.name: run}, "two-point-loss").cases[0].value == before


def test_the_gap_is_less_that_of_the_full_batch(tmp_path: Path) -> None:
    runs = gap_runs(tmp_path / "true", all=-0.02, half=0.04, quarter=0.03)
    half = finding(runs, "gap-half")
    assert half.verdict == "holds"
    assert half.cases[0].value == pytest.approx(1.2, abs=0.05)
    assert finding(runs, "gap-quarter").verdict == "holds"
    runs = gap_runs(tmp_path / "wrong", all=-0.02, half=0.01, quarter=0.3)
    assert finding(runs, "gap-half").verdict == "fails"
    assert finding(runs, "gap-quarter").verdict == "fails"


def test_without_the_full_batch_nothing_is_said_of_the_gap(tmp_path: Path) -> None:
    found = finding(gap_runs(tmp_path / "half", half=0.04), "gap-half")
    assert (found.verdict, found.count.all) == ("open", 0)


def test_magnitudes_and_quotients_of_intervals() -> None:
    assert magnitude(Estimate(0.9, 0.8, 1.05)) == Estimate(abs(0.9 - 1), 0.0, 1 - 0.8)
    assert magnitude(Estimate(1.3, 1.2, 1.4)).low == pytest.approx(0.2)
    found = quotient(Estimate(1.0, 0.5, 2.0), Estimate(4.0, 2.0, 8.0))
    assert (found.value, found.low, found.high) == (0.25, 0.0625, 1.0)
    assert quotient(Estimate(1.0, 0.5, 2.0), Estimate(4.0, 0.0, 8.0)).high == math.inf
    assert math.isnan(quotient(Estimate.exact(1.0), Estimate.exact(0.0)).value)


def test_every_figure_that_a_claim_names_is_drawn(tmp_path: Path) -> None:
    runs = {method: run_of(tmp_path / method, method) for method in FLOWS}
    runs |= gap_runs(tmp_path / "gap", all=-0.02, half=0.04, quarter=0.03)
    figures = {figure.name: figure for figure in central_figures(runs)}
    assert {claim.figure for claim in read_claims("central").values()} <= set(figures)
    loss = figures["loss"].chart.to_dict()
    assert [panel["title"]["text"] for panel in loss["concat"]] == ["gd", "momentum", "rmsprop"]
    assert "gd stable flow 2, central flow 2, corrected central flow 2" in figures["distance"].caption
    assert central_figures({}) == []
