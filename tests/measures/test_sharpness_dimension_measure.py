"""The measure of the sharpness dimension says what the function says, of the objective and of its mini-batches."""

from __future__ import annotations

import pytest
import torch

import edgescope as es
from edgescope.dimension import kaplan_yorke, sharpness_dimension
from edgescope.errors import EdgescopeError
from edgescope.measures import MEASURES, Moment, Reading


def moment() -> Moment:
    torch.manual_seed(4)
    model = torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).double()
    inputs, targets = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    loss_fn = es.supervised(torch.nn.functional.cross_entropy)
    objective = es.Objective(model, loss_fn, (inputs, targets), threads=None, path="kept")
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    w = objective.parameters()
    return Moment(3, objective, optimizer, es.rule_for(optimizer, objective.tensors), w, w)


def read(spec: str) -> Reading:
    return MEASURES.build(f"sharpness_dimension:{spec}").take(moment())


def dense_logs(lr: float) -> torch.Tensor:
    objective = moment().objective
    hessian = objective.hvp(torch.eye(objective.size, dtype=torch.float64))
    return (1 - lr * torch.linalg.eigvalsh(hessian)).abs().log()


def test_exact_on_all_data_is_kaplan_yorke_of_the_dense_hessian() -> None:
    found = read("methods=exact,fixed_lr=0.7")
    logs = dense_logs(2.0)
    assert found.values["exact"] == pytest.approx(kaplan_yorke(logs), rel=1e-9)
    assert found.values["exact/fixed"] == pytest.approx(kaplan_yorke(dense_logs(0.7)), rel=1e-9)
    assert found.values["exponent"] == pytest.approx(float(logs.max()), rel=1e-8)
    assert found.values["contraction"] == pytest.approx(float(logs.sum()), rel=1e-8)
    assert found.values["size"] == len(logs) == found.cost.products


def test_all_methods_look_at_the_same_mini_batches() -> None:
    options = {"batch": 8, "batches": 3, "seed": 5}
    found = read("methods=exact+slq,probes=2,steps=73," + ",".join(f"{k}={v}" for k, v in options.items()))
    drawn = {"batch_size": 8, "batches": 3, "seed": 5}
    exact = sharpness_dimension(moment().objective, 2.0, **drawn)
    assert found.values["exact"] == pytest.approx(exact.dimension, rel=1e-9)
    assert found.values["exact/pooled"] == pytest.approx(exact.by_averaging["pooled"], rel=1e-9)
    assert found.errors["exact"] == pytest.approx(exact.error, rel=1e-6)
    alone = read("methods=slq,batch=8,batches=3,seed=5,probes=2,steps=73")
    assert found.values["slq"] == pytest.approx(alone.values["slq"], rel=1e-6)


def test_methods_and_rates_share_their_products() -> None:
    found = read("methods=slq+kde+ps,fixed_lr=0.7,batch=8,batches=3,seed=5,probes=2,steps=20")
    options = {"batch_size": 8, "batches": 3, "seed": 5, "probes": 2, "steps": 20, "max_steps": 20}
    for lr, suffix in ((2.0, ""), (0.7, "/fixed")):
        for method in ("slq", "kde", "ps"):
            objective = moment().objective
            expected = sharpness_dimension(objective, lr, method=method, **options)
            assert found.values[f"{method}{suffix}"] == pytest.approx(expected.dimension, rel=1e-9)
            assert found.errors[f"{method}{suffix}"] == pytest.approx(expected.error, rel=1e-6)
            assert found.cost.products == expected.cost.products == objective.spent.products


def test_a_given_rate_stands_for_that_of_the_optimizer() -> None:
    assert read("methods=exact,lr=0.7").values["exact"] == pytest.approx(
        read("methods=exact,fixed_lr=0.7").values["exact/fixed"]
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [("methods=exact+slk", "slk"), ("batches=0", "batches=0"), ("batch=0", "batch=0"), ("probes=0", "probes=0")],
)
def test_options_that_cannot_be_are_one_line(spec: str, words: str) -> None:
    with pytest.raises(EdgescopeError, match=words) as caught:
        MEASURES.build(f"sharpness_dimension:{spec}")
    assert "\n" not in str(caught.value)


def test_a_batch_larger_than_the_data_is_a_note() -> None:
    found = read("batch=41")
    assert not found.values
    assert "batch size of 41" in found.note
