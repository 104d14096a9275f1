"""Runs that diverge, or whose network is dead: what the verdict says of them, in real loops and on given readings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from monitor_runs import noticed
from test_verdict import FALLING, LEVEL, MINI, run
from torch import Tensor, nn
from torch.nn import functional as F

import edgescope as es
from edgescope.errors import EdgescopeWarning
from edgescope.measures.base import CLIPPED, HIDDEN_FACTOR
from edgescope.monitor.reasons import Verdict

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
Loss = Callable[[Tensor, Tensor], Tensor]
Make = Callable[[list[Tensor]], torch.optim.Optimizer]


def relu(normalised: bool = False, bias: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    middle = [nn.BatchNorm1d(12)] if normalised else []
    model = nn.Sequential(nn.Linear(8, 12), *middle, nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    if bias:
        nn.init.constant_(model[0].bias, bias)
    return model


def train(model: nn.Module, make: Make, loss: Loss = F.cross_entropy, steps: int = 80, batch: int = 60) -> Verdict:
    optimizer = make(list(model.parameters()))
    draw = torch.Generator().manual_seed(1)
    with noticed(), es.watch(model, optimizer, es.supervised(loss), (X, Y), every=8, batch_size=batch) as monitor:
        for _ in range(steps):
            chosen = torch.randperm(60, generator=draw)[:batch]
            optimizer.zero_grad()
            loss(model(X[chosen]), Y[chosen]).backward()
            optimizer.step()
    return monitor.verdict()


@pytest.mark.parametrize("batch", [60, 10])
def test_a_dead_network_is_saturated_and_not_stable(batch: int) -> None:
    found = train(relu(bias=-100.0), lambda p: torch.optim.SGD(p, lr=0.1), batch=batch)
    assert found.regime == "saturated"
    assert "the gradient of many parameters was exactly 0" in found.sentences[0]
    assert "smaller learning rate" in found.advice
    assert found.figures[0].measure == "loss"


@pytest.mark.parametrize(
    ("make", "loss", "batch"),
    [
        (lambda p: torch.optim.SGD(p, lr=30.0), F.cross_entropy, 60),
        (lambda p: torch.optim.SGD(p, lr=30.0), F.cross_entropy, 10),
        (lambda p: torch.optim.SGD(p, lr=0.1), lambda o, y: 1e3 * F.cross_entropy(o, y), 60),
        (lambda p: torch.optim.Adam(p, lr=10.0), F.cross_entropy, 10),
    ],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_runs_at_far_too_high_rates_are_not_called_stable(make: Make, loss: Loss, batch: int, normalised: bool) -> None:
    found = train(relu(normalised), make, loss, batch=batch)
    assert found.regime in ("saturated", "beyond it and diverging", "beyond it and oscillating"), found


def test_a_loss_that_is_not_finite_before_the_first_reading_after_the_start() -> None:
    found = train(relu(), lambda p: torch.optim.SGD(p, lr=1e4), steps=20)
    assert found.regime == "beyond it and diverging"
    (ratio,) = (figure.value for figure in found.figures if figure.measure == "ratio")
    assert f"below {1e4 / ratio:.2g}" in found.advice


def test_dead_units_are_noticed_once_and_parameters_outside_of_the_loss_are_not_counted() -> None:
    for model, expected in ((relu(bias=-100.0), 1), (_WithMore(), 0)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", EdgescopeWarning)
            with es.watch(model, optimizer, F.cross_entropy, (X, Y), every=1):
                for _ in range(4):
                    optimizer.zero_grad()
                    F.cross_entropy(model(X), Y).backward()
                    optimizer.step()
        assert sum("faq#dead-units" in str(one.message) for one in seen) == expected


class _WithMore(nn.Module):
    """A network with a part that the loss does not depend on, first among its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(50, 50)
        self.used = relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


# ------------------------------------------------------------------------------------------------------- given readings


def test_a_flat_place_after_steps_beyond_the_edge_is_saturated() -> None:
    ratios = [9.0, 2.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    stuck = [2.3, 4.0, 2.4, 2.6, 2.4, 2.5, 2.4, 2.6]
    found = run({"ratio": ratios, "loss/train": stuck, "effective_sharpness": [1.0] * 8}, note=MINI)
    assert found.regime == "saturated"
    assert "was 9 at step 0 and is 0.5 now" in found.sentences[0]
    learned = [2.3, 4.0, 2.0, 1.6, 1.4, 1.2, 1.0, 0.9]
    assert run({"ratio": ratios, "loss/train": learned, "effective_sharpness": [1.0] * 8}).regime == "flow-aligned"
    catapult = [2.3, 90.0, 80.0, 60.0, 40.0, 20.0, 10.0, 5.0]
    assert run({"ratio": ratios, "loss/train": catapult, "effective_sharpness": [1.0] * 8}).regime == "flow-aligned"


def test_a_gradient_that_has_gone_before_the_loss_fell_is_said() -> None:
    values = {"ratio": [0.1] * 6, "loss/train": [2.4, 2.3, 2.3, 2.3, 2.3, 2.3], "effective_sharpness": LEVEL}
    found = run(values | {"gradient_norm": [3.0, 0.1, 0.01, 1e-3, 1e-4, 1e-4]})
    assert found.regime == "flow-aligned"
    assert "come to rest" in str(found)
    assert "another initialization" in found.advice
    assert "come to rest" not in str(run(values | {"gradient_norm": [3.0] * 6}))


def test_a_loss_a_thousand_times_its_first_value_has_diverged_though_it_is_level_now() -> None:
    values = {"ratio": [4.0, 2.0, *[0.0] * 4], "loss/train": [2.0, 1e6, *[5e5] * 4], "effective_sharpness": LEVEL}
    groups = [{"lr": 0.8}]
    found = run(values, optimizers=[{"name": "SGD", "groups": groups}])
    assert found.regime == "beyond it and diverging"
    assert "below 0.2" in found.advice
    assert run(values | {"ratio": [0.5] * 6}).regime != "beyond it and diverging"


@pytest.mark.parametrize(
    ("value", "momentum", "regime"),
    [
        (0.05, 0.9, "flow-aligned"),
        (0.5, 0.9, "not known"),
        (0.5, 0.0, "flow-aligned"),
        (1.0, 0.9, "at the edge"),
        (1.5, 0.9, "beyond it and oscillating"),
    ],
)
def test_on_mini_batches_the_ratio_of_the_steps_decides(value: float, momentum: float, regime: str) -> None:
    values = {"ratio": [0.1] * 6, "batch_ratio": [value] * 6, "loss/train": FALLING, "effective_sharpness": LEVEL}
    optimizers = [{"name": "Adam", "groups": [{"lr": 1e-3, "betas": [momentum, 0.999]}]}]
    found = run(values, note=MINI, optimizers=optimizers)
    assert found.regime == regime
    assert found.figures[0].measure == "batch_ratio"
    if regime == "not known":
        assert "momentum adds steps up" in found.sentences[0]
        assert "The loss falls" in found.sentences[1]
    over = values | {"headroom/batch": [1 / value] * 6}
    assert run(over, note=MINI, optimizers=optimizers).regime == regime


def test_where_nothing_tells_of_mini_batches_a_line_of_code_and_the_loss_are_given() -> None:
    found = run({"ratio": [0.1] * 6, "loss/train": FALLING}, optimizer="Adam", note=MINI)
    assert found.regime == "not known"
    assert "batch_ratio" in found.advice
    assert "es.watch(" in found.advice
    assert "The loss falls" in str(found)


def test_a_run_that_hovers_above_its_first_loss_is_not_told_to_go_on() -> None:
    worse = {"ratio": [9.0] * 6, "batch_ratio": LEVEL, "loss/train": [1.0, 7.7, 5.0, 4.4, 5.5, 4.8]}
    found = run(worse, note=MINI)
    assert found.regime == "at the edge"
    assert found.sentences[1] == "The median of the recent losses, 5, is 5 times the first one"
    assert "smaller learning rate" in found.advice
    falling = run(worse | {"loss/train": [1.0, 9.0, 7.0, 5.0, 3.0, 2.0]}, note=MINI)
    assert "5 times the first one" in str(falling)
    assert falling.advice.startswith("nothing while the loss falls; else a start with a smaller")
    stopped = run(
        worse | {"loss/train": [1.0, 9.0, 7.0, 5.0, 3.0, 2.0], "threshold": [1, 1, 1, 1, 1, math.inf]}, note=MINI
    )
    assert "smaller learning rate" in stopped.advice, "the learning rate is 0: it falls no further"
    assert "recent losses" not in str(run(worse | {"loss/train": FALLING}, note=MINI))


@pytest.mark.parametrize("events", [(), [(50, "diverged", "not finite")]])
def test_steps_on_mini_batches_tell_a_divergence_without_any_ratio(events: Sequence[tuple[int, str, str]]) -> None:
    values = {
        "batch_ratio": [1.6, *[1.8] * 5],
        "loss/train": [1.0, 1e4, 1e8, 1e12, 1e16, 1e20],
        "sharpness/1": [0.0] * 6,
    }
    found = run(values, events=[(10, "gradients", "mini-batches"), *events])
    assert found.regime == "beyond it and diverging"
    assert "a step used 1.8 of its headroom" in found.sentences[0]
    quiet = run(values | {"batch_ratio": [0.9] * 6}, events=[(10, "gradients", "mini-batches"), *events])
    assert quiet.regime != "beyond it and diverging"


def test_an_optimizer_without_a_rule_is_judged_by_its_steps_on_mini_batches() -> None:
    values = {"batch_ratio": [0.05] * 6, "loss/train": FALLING, "sharpness/1": LEVEL}
    assert run(values, optimizer="Unknown", events=[(10, "gradients", "")]).regime == "flow-aligned"
    assert run(values, optimizer="Unknown").regime == "not known"


def test_the_figures_of_two_readings_are_one() -> None:
    found = run({"ratio": [1.65, 4.23], "loss/train": [2.0, 1.0]}, measured={"mode": "batch-statistics"})
    assert found.regime == "not known"
    assert {figure.value for figure in found.figures} == {4.23}


def test_trends_are_said_in_words() -> None:
    def words(*losses: float) -> str:
        found = run({"ratio": [1.4] * len(losses), "loss/train": losses})
        return found.sentences[1]

    assert words(8.0, 4.0, 2.0, 1.0).startswith("The loss falls by a factor of 8, to 1,")
    assert words(1.0, 2.0, 4.0, 8.0) == "The loss rises by a factor of 8, to 8"
    assert words(1.0, 1.0, 1.0, 1.0).startswith("The loss stays level, at 1, and rises in 0%")
    assert words(4.0, 2.0, -2.0, -4.0).startswith("The loss falls to -4,")


def test_a_threshold_that_follows_the_schedule_is_not_put_down_to_clipping() -> None:
    values = {"ratio": [1.0] * 6, "loss/train": FALLING, "threshold": [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    assert "with the learning rate" in str(run(values, note=f"{CLIPPED} to 1, {HIDDEN_FACTOR}"))
    assert "with clipping, the learning rate or" in str(run(values, note=f"{CLIPPED} to c = 1"))


def test_the_sharpness_in_another_norm_tells_sharpening_where_no_other_was_measured() -> None:
    rising = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    found = run({"ratio": [0.2] * 6, "loss/train": FALLING, "generalized_sharpness/lower": rising})
    assert found.regime == "sharpening"
    assert "The generalized sharpness rises by a factor of 16, to 32" in found.sentences, "of the last five readings"


def test_fitted_data_are_no_fault() -> None:
    fitted = {"ratio": [1.0, 0.8, 0.6, 0.4, 0.2, 0.1], "loss/train": [1.0, 0.3, 0.1, 0.03, 0.01, 0.003]}
    found = run(fitted | {"effective_sharpness": [10.0, 8.0, 6.0, 4.0, 2.0, 1.0]})
    assert found.regime == "saturated"
    assert found.advice.startswith("nothing, as the data are fitted")
    assert "float64" in run({"sharpness/1": [1.0, 0.0, 0.0], "loss/train": [1.0, 1e-9, 1e-9]}).advice


def test_a_step_that_meets_no_positive_curvature_uses_no_negative_headroom() -> None:
    found = run({"ratio": [0.1] * 6, "batch_ratio": [-0.01] * 6, "loss/train": FALLING}, note=MINI)
    assert found.regime == "flow-aligned"
    assert "steps meet no positive curvature (batch_ratio is -0.01" in found.sentences[0]
