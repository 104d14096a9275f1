"""Learning coefficients along sweeps of decay: the states against closed forms, and what claims make of gaps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from coefficient_records import coefficient_points, point
from one_claim import finding_of

from edgescope.claims import JudgedCase
from edgescope.experiments.phases.coefficient_sweep import (
    OWN_OUTPUTS,
    WITH_DECAY,
    WITHOUT_DECAY,
    CoefficientPoint,
    CoefficientSweepTask,
    SweptNetwork,
    objective_at,
)
from edgescope.experiments.study_run import StudyRun
from edgescope.linalg import spectrum
from edgescope.measures import Reading
from edgescope.phases.chain_options import ChainOptions
from edgescope.store import Record
from edgescope.studies.phases import Phases
from edgescope.theory.deep_linear import Mode
from edgescope.theory.reduced_rank import deep_linear_with_decay

NARROW = SweptNetwork((3, 2, 2, 3), (1.0, 0.6))
TINY = ChainOptions(n=10, gamma=20.0, chains=4, times=2.0, burn_in=1.0)


def sweep_of(network: SweptNetwork, **options: int) -> CoefficientSweepTask:
    points = network.points(2, 1)
    return CoefficientSweepTask("a", 1, 0, points, network, replace(TINY, **options), 2, dwell=8000)


def cases(folder: Path, id: str, readings: list[Reading]) -> dict[str, JudgedCase]:
    record = Record.create(folder, config={})
    for number, reading in enumerate(readings):
        record.append(number, [reading])
    runs = {"a": StudyRun("a", record, {"kind": "coefficients", "network": "narrow"})}
    return {case.case: case for case in finding_of(Phases, runs, id).cases}


@pytest.mark.parametrize("network", [NARROW, SweptNetwork((2, 4, 3, 2), (1.0, 0.6))])
def test_states_are_minima_with_as_many_curved_directions_as_the_closed_form_says(network: SweptNetwork) -> None:
    task = sweep_of(network)
    for decay, rank in zip(network.rising(2), (2, 2, 1, 1, 0), strict=True):
        at = CoefficientPoint(decay, False, WITH_DECAY)
        nets = task._swept(at)
        losses = {loss: objective_at(nets, network, replace(at, loss=loss)) for loss in (WITH_DECAY, OWN_OUTPUTS)}
        products = [float(Mode(3, s).minimum_product(decay)) for s in network.signals[:rank]] + [0.0] * (2 - rank)
        loss = sum(0.5 * (s - p) ** 2 + 1.5 * decay * p ** (2 / 3) for s, p in zip((1.0, 0.6), products, strict=True))
        assert float(losses[WITH_DECAY].loss()) == pytest.approx(loss, rel=1e-8)
        assert float(losses[WITH_DECAY].gradient().norm()) < 1e-8
        assert float(losses[OWN_OUTPUTS].loss()) < 1e-25
        curvatures = spectrum(losses[WITH_DECAY], method="exact").nodes
        assert len(curvatures) == sum(a * b for a, b in pairwise(network.widths))
        assert float(curvatures.min()) > -1e-7
        assert int((curvatures > 1e-3).sum()) == 2 * deep_linear_with_decay(network.widths, rank).coefficient


def test_a_sweep_rises_past_every_critical_decay_and_returns_without_its_modes() -> None:
    points = NARROW.points(3, 2, down=3)
    ends = [float(Mode(3, s).critical_decay()) for s in (0.6, 1.0)]
    up = [p.decay for p in points if p.loss == WITH_DECAY and not p.down]
    assert up == sorted(up)
    assert [sum(decay < end for decay in up) for end in ends] == [3, 6]
    assert [p.decay for p in points if p.loss == OWN_OUTPUTS and p.down] == up[2::-1]
    assert [p.decay for p in points if p.loss == WITHOUT_DECAY] == up[1:3]
    nets = sweep_of(NARROW)._swept(CoefficientPoint(sweep_of(NARROW).pieces[0].decay, True, WITH_DECAY))
    assert abs(nets).max() < 1e-6


def test_the_sampler_has_its_closed_form_at_rank_0() -> None:
    """Close to the origin the loss with decay is quadratic where n is small: every weight counts n β d/(n β d + γ)."""
    network = SweptNetwork((1, 2, 2, 1), (1.0,))
    options = replace(TINY, chains=64, gamma=100.0, times=30.0)
    task = CoefficientSweepTask("a", 1, 0, network.points(2, 1), network, options, 2, dwell=8000)
    (reading,) = task.simulate(CoefficientPoint(0.5, False, WITH_DECAY), seed=3)
    v = reading.values
    assert (v["rank"], v["closed"], reading.measure, reading.note) == (0, 4.0, WITH_DECAY, "")
    assert v["value"] == pytest.approx(v["quadratic"], abs=2 * (v["high"] - v["low"]))
    assert v["quadratic"] == pytest.approx(8 / 2 * 0.5 / (0.5 + 100 / (10 / 2.302585)), rel=0.11)


def test_chains_that_would_be_too_long_leave_the_reason(tmp_path: Path) -> None:
    (reading,) = sweep_of(NARROW, max_steps=5).simulate(CoefficientPoint(0.5, False, OWN_OUTPUTS), seed=0)
    assert "value" not in reading.values
    assert "max_steps=5" in reading.note
    found = cases(tmp_path, "coefficient-of-own-outputs", [*coefficient_points(True)[:-1], reading])
    assert "narrow, rank 1 to 0, after" in found


@pytest.mark.parametrize("id", ["coefficient-jumps", "coefficient-moves-first"])
def test_a_point_whose_chains_found_lower_losses_decides_nothing(tmp_path: Path, id: str) -> None:
    gap = point(OWN_OUTPUTS, 0.25, 2, 9.0, note="the loss is not at a minimum")
    decays = [r for r in coefficient_points(True) if (r.measure, r.values["decay"]) != (OWN_OUTPUTS, 0.25)]
    found = cases(tmp_path, id, [*decays, gap])
    open_one = found["narrow, own outputs as targets, rank 2 to 1"]
    assert open_one.verdict == "open"
    assert "not at a minimum" in open_one.why
    assert open_one.needs
    assert found["narrow, loss with decay, rank 2 to 1"].verdict == "holds"


def test_the_share_before_the_jump_and_its_error_are_those_of_the_three_estimates(tmp_path: Path) -> None:
    found = cases(tmp_path, "coefficient-moves-first", coefficient_points(True))
    case = found["narrow, own outputs as targets, rank 2 to 1"]
    assert case.value == pytest.approx(3.2 / 5.6)
    change = 0.01 * (1 + (4 / 7) ** 2 + (3 / 7) ** 2) ** 0.5 / 5.6
    assert case.high - case.value == pytest.approx(change)
    flat = [r for r in coefficient_points(False) if r.values["rank"] == 2] + [point(WITH_DECAY, 0.3, 1, 18.0)]
    assert (
        "more than its interval"
        in cases(tmp_path / "b", "coefficient-moves-first", flat)["narrow, loss with decay, rank 2 to 1"].why
    )
