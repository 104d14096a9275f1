"""All checks of a problem at once, as rows; and the forecast of each measure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from problems import network, samples
from torch import nn

import edgescope as es
from edgescope.objective.expected_memory import expected_memory
from edgescope.tuning import CheckRow, ProblemReport, doctor


def row(report: ProblemReport, area: str, check: str) -> CheckRow:
    (found,) = [one for one in report.rows if (one.area, one.check) == (area, check)]
    return found


def test_what_is_handled_is_said() -> None:
    model = network()
    report = doctor(model, F.mse_loss, samples(), optimizer=torch.optim.AdamW(model.parameters(), lr=0.1), measures=[])
    assert report.usable
    assert report.refused == ()
    assert row(report, "model", "dropout").status == "handled"
    assert "'3' (p=0.1)" in row(report, "model", "dropout").finding
    assert row(report, "model", "batch normalization").status == "handled"
    assert row(report, "model", "training mode").status == "caution"
    assert row(report, "loss", "form").status == "handled"
    assert row(report, "loss", "second derivatives").status == "ok"
    assert row(report, "data", "data").finding == "64 samples in 1 batch, all finite"
    assert "= 379.8" in row(report, "optimizer", "threshold").finding  # (2 - 0.1 * 0.01) 19/0.1
    assert report.mode == "batch-statistics"


def test_several_faults_are_told_at_once() -> None:
    model, (x, y) = network(), samples()
    x[0, 0] = torch.nan
    with torch.no_grad():
        first: Any = model[0]
        first.weight[0, 0] = torch.inf
    report = doctor(model, F.mse_loss, (x, y), optimizer=torch.optim.LBFGS(model.parameters()))
    assert not report.usable
    assert report.measures == ()
    assert {(one.area, one.check) for one in report.refused} == {
        ("model", "parameters"),
        ("data", "data"),
        ("optimizer", "update rule"),
    }
    assert all(one.remedy for one in report.refused)
    assert row(report, "loss", "loss").status == "not checked"


@pytest.mark.parametrize(
    ("model", "loss_fn", "area", "words"),
    [
        ("net", F.mse_loss, "model", "a model of type str"),
        (network(), 3, "loss", "a loss of type int"),
        (network(), lambda model, batch: torch.rand(()) * model(batch[0]).sum(), "loss", "two evaluations"),
        (network(), lambda model, batch: model(batch[0]), "loss", "a tensor of shape"),
    ],
)
def test_a_loss_that_cannot_be_measured_is_a_row(model: Any, loss_fn: Any, area: str, words: str) -> None:
    report = doctor(model, loss_fn, samples())
    (refused,) = report.refused
    assert refused.area == area
    assert words in refused.finding
    assert refused.remedy


def test_an_optimizer_that_cannot_be_made_is_a_row() -> None:
    report = doctor(
        network(), F.mse_loss, samples(), optimizer=lambda own: es.OPTIMIZERS.build("muon").build(own, lr=1.0)
    )
    assert row(report, "optimizer", "options").status == "refused"
    assert report.usable
    assert {one.status for one in report.measures if one.measure == "ratio"} == {"refused"}


def test_parameters_that_no_optimizer_holds_are_a_caution() -> None:
    model = network()
    first: Any = model[0]
    optimizer = torch.optim.SGD([*first.parameters(), nn.Parameter(torch.zeros(3))], lr=0.1)
    report = doctor(model, F.mse_loss, samples(), optimizer=optimizer, measures=[])
    cautions = [one for one in report.rows if one.area == "optimizer" and one.status == "caution"]
    assert [one.remedy for one in cautions] == [
        "params=optimizer",
        "a module that has all of them registered, or params=optimizer",
    ]
    assert all("; try" not in one.finding for one in report.rows)


def test_nothing_is_changed() -> None:
    model = network()
    before, rng = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    doctor(model, F.mse_loss, samples(), measures=["sharpness"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert model.training


def test_each_measure_has_a_forecast() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    report = doctor(model, F.mse_loss, samples(), optimizer=optimizer)
    by_name = {one.measure: one for one in report.measures}
    assert set(by_name) == set(es.MEASURES.names())
    assert by_name["headroom"].status == "in a run"
    sharpness = by_name["sharpness"]
    assert sharpness.gradients == pytest.approx(2 * 6)
    assert sharpness.seconds == pytest.approx(12 * report.gradient_seconds)
    assert sharpness.first_seconds > sharpness.seconds
    assert sharpness.bytes > by_name["loss"].bytes > 0


def test_a_measure_that_is_too_large_is_refused_alone() -> None:
    report = doctor(network(), F.mse_loss, samples(), measures=["sharpness:k=100000", "sharpness:k=2"])
    assert [one.status for one in report.measures] == ["refused", "ok"]
    assert "k=100000" in report.measures[0].finding


def test_memory_of_products_grows_with_the_data() -> None:
    model = nn.Sequential(nn.Linear(5, 50), nn.Tanh(), nn.Linear(50, 1))
    few, many = (
        expected_memory(es.Objective(model, es.supervised(F.mse_loss), samples(count))) for count in (100, 1000)
    )
    assert 5 < (many.product - few.gradient) / few.gradient < 20
    assert many.product >= many.gradient
