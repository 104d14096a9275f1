"""The regime of a run: known by construction, and where the ratio alone would mislead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from monitor_runs import LOSS, data, noticed, small
from torch import Tensor, nn
from torch.optim import SGD

import edgescope as es
from edgescope.measures.base import CLIPPED, HIDDEN_FACTOR, IN_MINI_BATCHES
from edgescope.monitor.reasons import ADVICE, Verdict
from edgescope.monitor.run_facts import RunFacts, Series
from edgescope.monitor.verdict import judge, verdict_of

MEASURES = ("loss", "sharpness", "effective_sharpness", "threshold", "ratio")


class Weights(nn.Module):
    """Parameters from the start; the loss is a function of them alone."""

    def __init__(self, *start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def descend(
    loss: Callable[[Tensor], Tensor],
    start: Sequence[float],
    lr: float,
    steps: int = 24,
    after: Callable[[Weights, SGD, int], None] = lambda model, optimizer, step: None,
    measures: Sequence[str] = MEASURES,
    every: int = 1,
    decay: float = 0.0,
    **options: Any,
) -> Verdict:
    """The verdict on gradient descent, read at every step; ``after`` is called after each."""
    model = Weights(*start)
    optimizer = SGD(model.parameters(), lr=lr, weight_decay=decay)
    with (
        noticed(),
        es.watch(
            model, optimizer, lambda m, _: loss(m.w), torch.zeros(1), every=every, measures=measures, **options
        ) as monitor,
    ):
        for step in range(steps):
            optimizer.zero_grad()
            loss(model.w).backward()
            optimizer.step()
            after(model, optimizer, step)
    return monitor.verdict()


def bowl(w: Tensor) -> Tensor:
    """A quadratic with the curvatures 2 and 0.2."""
    return w[0] ** 2 + 0.1 * w[1] ** 2


def test_below_the_threshold_of_a_quadratic_descent_is_flow_aligned() -> None:
    found = descend(bowl, (1.0, 1.0), lr=0.5)
    assert found.regime == "flow-aligned"
    assert found.figures[0].value == pytest.approx(0.5)


def test_at_the_threshold_of_a_quadratic_descent_is_at_the_edge() -> None:
    assert descend(bowl, (1.0, 1.0), lr=1.0).regime == "at the edge"


def test_beyond_the_threshold_of_a_quadratic_descent_diverges() -> None:
    found = descend(bowl, (1.0, 1.0), lr=1.2)
    assert found.regime == "beyond it and diverging"
    assert "9.4e+06 times its first value" in str(found)
    assert found.advice.startswith("a learning rate below 1,"), "1.2 over a ratio of 1.2"


def test_a_loss_that_is_not_finite_after_a_ratio_above_one_diverges() -> None:
    found = descend(bowl, (1.0, 1.0), lr=1e60, steps=8)
    assert found.regime == "beyond it and diverging"
    assert found.figures[0].value > 1


@pytest.mark.parametrize(("steps", "regime"), [(13, "beyond it and oscillating"), (20, "beyond it and diverging")])
def test_a_loss_that_grows_diverges_once_it_is_above_its_first_value(steps: int, regime: str) -> None:
    def faster(_: Weights, optimizer: SGD, step: int) -> None:
        if step == 7:
            optimizer.param_groups[0]["lr"] = 1.2

    found = descend(bowl, (1.0, 0.0), lr=0.9, steps=steps, after=faster)  # 0.8^16 of the loss, then 1.96 times a step
    assert found.regime == regime


def test_a_stable_oscillation_about_a_minimum_that_is_too_sharp_is_beyond_the_edge() -> None:
    # (w² - 1)²/4 has curvature 2 at its minimum: at a rate of 1.1 descent settles on an orbit of two points about it
    found = descend(lambda w: 0.25 * (w[0] ** 2 - 1) ** 2, (1.1,), lr=1.1, steps=200, every=2)
    assert found.regime == "beyond it and oscillating"
    assert found.figures[0].value == pytest.approx(1.505, abs=2e-3)


def test_a_product_that_grows_from_a_saddle_sharpens() -> None:
    # (ab - 1)²/2 has curvature 1 at the saddle and a² + b² = 2 where ab = 1
    found = descend(lambda w: 0.5 * (w[0] * w[1] - 1) ** 2, (0.1, 0.1), lr=0.05, steps=55)
    assert found.regime == "sharpening"


def test_a_separable_problem_whose_loss_has_gone_is_saturated() -> None:
    found = descend(lambda w: nn.functional.softplus(-4 * w[0]), (0.1,), lr=1.0, steps=100)
    assert found.regime == "saturated"


@pytest.mark.parametrize(("decay", "regime"), [(1.5, "trapped"), (1e-4, "sharpening")])
def test_weight_decay_that_holds_a_product_at_the_origin_is_a_trap(decay: float, regime: str) -> None:
    # (abc - 1)²/2 has a minimum at the origin with any weight decay, and another one while it is small.
    found = descend(
        lambda w: 0.5 * (w.prod() - 1) ** 2,
        (0.5, 0.4, 0.4),
        lr=0.05,
        steps=40,
        measures=(*MEASURES, "norms"),
        decay=decay,
    )
    assert found.regime == regime


def test_a_curvature_of_exactly_zero_is_saturated() -> None:
    found = descend(lambda w: nn.functional.relu(w).square().sum(), (-1.0, -2.0), lr=0.1, steps=4)
    assert found.regime == "saturated"


def test_two_readings_and_an_unknown_optimizer_are_not_known() -> None:
    assert descend(bowl, (1.0, 1.0), lr=0.5, steps=1).regime == "not known"
    assert descend(bowl, (1.0, 1.0), lr=0.5, measures=["loss"]).regime == "not known"


def test_a_warm_up_is_not_sharpening() -> None:
    def warm_up(model: Weights, optimizer: SGD, step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.02 * (step + 2)

    found = descend(bowl, (1.0, 1.0), lr=0.02, steps=16, after=warm_up)
    assert found.regime == "flow-aligned"
    assert "threshold has changed" in str(found)
    assert found.figures[0].value == pytest.approx(0.02 * 17), "the ratio is that of the last step"


def test_a_rate_of_zero_at_the_end_is_not_stability() -> None:
    def to_zero(model: Weights, optimizer: SGD, step: int) -> None:
        if step == 23:
            optimizer.param_groups[0]["lr"] = 0.0

    found = descend(bowl, (1.0, 1.0), lr=1.0, after=to_zero)
    assert found.regime == "at the edge"
    assert "learning rate is 0" in str(found)


def test_clipping_is_said_and_taken_into_account() -> None:
    model = small()
    optimizer = SGD(model.parameters(), lr=5.0)
    measures = [*MEASURES, "gradient_norm"]
    with noticed(), es.watch(model, optimizer, LOSS, data(), every=1, measures=measures) as monitor:
        for _ in range(6):
            optimizer.zero_grad()
            LOSS(model, data()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
    assert "Gradients are clipped" in str(monitor.verdict())


def test_mini_batches_and_batch_statistics_are_said() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = SGD(model.parameters(), lr=0.02)
    inputs, targets = data(48)
    with noticed(), es.watch(model, optimizer, LOSS, (inputs, targets), every=1, measures=MEASURES) as monitor:
        for i in range(6):
            rows = slice(8 * i, 8 * i + 8)
            optimizer.zero_grad()
            LOSS(model, (inputs[rows], targets[rows])).backward()
            optimizer.step()
    found = monitor.verdict()
    assert found.regime == "not known"
    assert "mini-batches" in found.sentences[0]
    assert "batch normalisation" in str(found)


# ------------------------------------------------------------------------------------------------------- given readings


def run(
    series: Mapping[str, Sequence[float]],
    optimizer: str = "SGD",
    note: str = "",
    events: Sequence[tuple[int, str, str]] = (),
    **info: Any,
) -> Verdict:
    """The verdict on a run with these values at steps 0, 10, 20, ..., by "measure" or "measure/part"."""
    rows = [
        (10 * i, name.partition("/")[0], name.partition("/")[2], float(value), note if name == "ratio" else "")
        for name, values in series.items()
        for i, value in enumerate(values)
    ]
    table = pl.DataFrame(rows, schema=["step", "measure", "part", "value", "note"], orient="row")
    noted = pl.DataFrame(events, schema={"step": pl.Int64, "kind": pl.String, "text": pl.String}, orient="row")
    return judge(RunFacts(table, noted, {"optimizers": [{"name": optimizer}]} | info, "running"))


LEVEL, FALLING, RISING = [1.0] * 6, [1.0, 0.8, 0.7, 0.6, 0.5, 0.4], [1.0, 1.2, 1.5, 1.9, 2.4, 3.0]
MINI = f"training steps on 8 of the 48 samples: {IN_MINI_BATCHES}"


def test_adam_with_a_ratio_of_five_while_the_loss_falls_is_not_beyond_the_edge() -> None:
    values = {"ratio": [5.0] * 6, "loss/train": FALLING, "effective_sharpness": LEVEL}
    found = run(values, optimizer="Adam")
    assert found.regime == "not known"
    assert "preconditioner" in found.sentences[0]
    assert "headroom" in found.advice
    assert run(values | {"headroom": [3.0] * 6}, optimizer="Adam").regime == "flow-aligned"
    assert run(values | {"headroom": LEVEL}, optimizer="Adam").regime == "at the edge"
    assert run(values | {"loss/train": RISING}, optimizer="Adam").regime == "beyond it and diverging"
    assert run(values, optimizer="SGD").regime == "beyond it and oscillating"


def test_a_full_data_ratio_below_one_is_not_stability_in_mini_batches() -> None:
    values = {"ratio": [0.3] * 6, "loss/train": FALLING, "effective_sharpness": LEVEL}
    assert run(values).regime == "flow-aligned"
    assert run(values, note=MINI).regime == "not known"
    assert run(values | {"headroom": LEVEL}, note=MINI).regime == "not known", "that on all data says nothing"
    assert run(values | {"headroom/batch": LEVEL}, note=MINI).regime == "at the edge"
    assert run(values | {"headroom/batch": [4.0] * 6}, note=MINI).regime == "flow-aligned"
    assert run(values | {"headroom/batch": [0.5] * 6}, note=MINI).regime == "beyond it and oscillating"
    for batch, large, regime in ((1.0, None, "at the edge"), (0.4, None, "flow-aligned"), (3.0, 0.3, "at the edge")):
        sharp = {"batch_sharpness/ratio": [batch] * 6}
        sharp |= {} if large is None else {"batch_sharpness/ratio/large": [large] * 6}
        assert run(values | sharp, note=MINI).regime == regime


def test_a_plateau_of_the_loss_below_the_threshold_is_not_the_edge() -> None:
    values = {"ratio": [0.3] * 6, "loss/train": LEVEL, "effective_sharpness": LEVEL, "headroom": LEVEL}
    assert run(values).regime == "flow-aligned"


def test_clipping_by_an_unknown_factor_leaves_a_high_ratio_open() -> None:
    values = {"ratio": [3.0] * 6, "loss/train": LEVEL, "threshold": LEVEL}
    assert run(values, note=f"{CLIPPED} to 1, {HIDDEN_FACTOR}").regime == "not known"


def test_another_function_in_training_leaves_the_ratio_open() -> None:
    values = {"ratio": [0.3] * 6, "loss/train": FALLING, "effective_sharpness": LEVEL}
    assert run(values, events=[(0, "mode", "measured with running statistics")]).regime == "not known"
    assert run(values, events=[(0, "dropout", "Dropout is off")]).regime == "flow-aligned"


def test_a_loss_that_rises_below_the_threshold_is_not_explained() -> None:
    assert run({"ratio": [0.3] * 6, "loss/train": RISING, "effective_sharpness": LEVEL}).regime == "not known"


def test_divergence_below_the_threshold_is_not_explained() -> None:
    found = run({"ratio": [0.3] * 6, "loss/train": FALLING}, events=[(60, "diverged", "not finite")])
    assert found.regime == "not known"
    assert "at most 0.3" in found.sentences[0]


def test_without_a_ratio_the_headroom_decides_unless_training_is_on_other_data() -> None:
    values = {"headroom": LEVEL, "loss/train": FALLING}
    assert run(values, optimizer="Unknown").regime == "at the edge"
    noted = [(0, "gradients", "not those of the objective")]
    assert run(values, optimizer="Unknown", events=noted).regime == "not known"


def test_every_sentence_has_the_figures_that_it_cites() -> None:
    values = {"ratio": [1.4] * 6, "loss/train": LEVEL, "threshold": [9, 8, 7, 6, 5, 4], "effective_sharpness": LEVEL}
    found = run(values, note=f"{CLIPPED} to c = 1", measured={"mode": "batch-statistics"})
    assert len(found.reasons) >= 4
    for reason in found.reasons:
        assert reason.figures
        assert all(str(figure) in reason.sentence for figure in reason.figures)
    assert str(found).startswith("beyond it and oscillating (step 50). The ratio")
    assert set(ADVICE) >= {found.regime}


def test_trends_are_those_of_the_series() -> None:
    def trend(*values: float) -> Any:
        steps = torch.arange(len(values)).numpy()
        return Series("loss", "", steps, torch.tensor(values, dtype=torch.float64).numpy()).trend()

    assert trend(1, 2, 4, 8).factor == pytest.approx(8)
    assert trend(8, 4, 2, 1).factor == pytest.approx(1 / 8)
    assert trend(1, 2, 1, 2, 1).rises == 0.5
    assert not trend(1, 2, 1, 2, 1).up
    assert trend(1, 2) is None
    assert trend(-1, 0, 1).up
    assert trend(1, 1, float("inf"), 1).factor == 1


def test_a_record_has_the_verdict_of_its_monitor(tmp_path: Path) -> None:
    found = descend(bowl, (1.0, 1.0), lr=1.0, out=tmp_path)
    with es.Record.open(tmp_path) as record:
        assert verdict_of(record) == found
