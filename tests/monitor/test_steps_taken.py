"""Training's gradients and steps beside those of the objective and of the optimizer's rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from monitor_runs import LOSS, backward, data, dense_hessian, objective_of, small
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, Adam, AdamW

from edgescope.errors import EdgescopeWarning
from edgescope.monitor import Monitor
from edgescope.objective import Objective
from edgescope.optim import SteepestDescent, add_rule
from edgescope.optim.known import RULES

BATCH = data(dtype=torch.float64)
MEASURES = ["threshold", "effective_sharpness:tol=1e-9", "ratio:tol=1e-9", "step_ratio", "gradient_norm"]
EXACT = pytest.approx({"": 1, "cosine": 1, "gradient": 1, "gradient_cosine": 1}, rel=1e-6)


class Trained:
    """A network trained for some steps beside a monitor; ``told`` are the kinds and causes of what it told of."""

    def __init__(self, model: nn.Module, optimizer: Any, *, batch: Any = BATCH, every: int = 1, **more: Any) -> None:
        self.model, self.optimizer, self.batch = model, optimizer, batch
        self.monitor = Monitor(objective_of(model, batch, **more), optimizer, every=every, measures=MEASURES)

    def steps(
        self,
        count: int = 6,
        loss: Callable[[int], Any] | None = None,
        before: Callable[[], Any] | None = None,
    ) -> Trained:
        several = self.optimizer if isinstance(self.optimizer, list) else [self.optimizer]
        for number in range(count):
            self.model.zero_grad()
            backward(self.model, self.batch) if loss is None else loss(number)
            if before is not None:
                before()
            for optimizer in several:
                optimizer.step()
            self.monitor.step()
        return self

    def value(self, measure: str, part: str = "") -> float:
        found = self.monitor.value(measure, part)
        assert found is not None
        return found

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(kind, cause) for kind, cause in self.monitor.notices.given() if kind in ("update", "gradients")]

    @property
    def warned(self) -> list[str]:
        return [notice.text for notice in self.monitor.notices if notice.warned]


def preconditioner(optimizer: torch.optim.Optimizer) -> Tensor:
    """That of Adam, in the order of its parameters, from its state as torch keeps it."""
    pieces = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            state, (beta1, beta2) = optimizer.state[p], group["betas"]
            step = float(state["step"])
            root = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt() + group["eps"]
            pieces.append((1 - beta1**step) * root.flatten())
    return torch.cat(pieces).double()


def clip_factor(norm: float, c: float) -> float:
    """By what torch's ``clip_grad_norm_`` multiplies a gradient of this norm."""
    return min(1.0, c / (norm + 1e-6))


def top(matrix: Tensor) -> float:
    return float(torch.linalg.eigvalsh(matrix)[-1])


OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], float, float]] = {
    # how it is made, the threshold of its rule, and its coupled weight decay
    "gradient descent": (lambda p: SGD(p, lr=0.1), 2 / 0.1, 0.0),
    "momentum": (lambda p: SGD(p, lr=0.1, momentum=0.5), 3 / 0.1, 0.0),
    "weight decay": (lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.3), 3.8 / 0.1, 0.3),
    "adam": (lambda p: Adam(p, lr=0.01), 38 / 0.01, 0.0),
    "adam and weight decay": (lambda p: Adam(p, lr=0.01, weight_decay=0.02), 38 / 0.01, 0.02),
    "adamw": (lambda p: AdamW(p, lr=0.01, weight_decay=2.0), (2 - 0.02) * 19 / 0.01, 0.0),
}


@pytest.mark.parametrize("factor", ["clipped", "sum", "a fifth"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_threshold_is_that_of_the_gradients_that_are_stepped_with(name: str, factor: str) -> None:
    make, threshold, decay = OPTIMIZERS[name]
    model = small().double()
    trained = Trained(model, make(model.parameters()))
    scale = {"sum": 24.0, "a fifth": 0.2}.get(factor)
    words = {"clipped": "gradients are clipped to c = 0.05, so the threshold is multiplied by", "sum": "is 24 times"}
    clip = None if scale else lambda: clip_grad_norm_(model.parameters(), 0.05)
    with pytest.warns(EdgescopeWarning, match=words.get(factor, "is 0.2 times that of the objective")) as told:
        trained.steps(loss=lambda _: ((scale or 1.0) * LOSS(model, BATCH)).backward(), before=clip)
    assert len(told) == 1
    objective = trained.monitor.objective
    alpha = clip_factor(float(objective.gradient().norm()), 0.05) if scale is None else scale
    assert trained.value("threshold") == pytest.approx(threshold / alpha, rel=1e-6)
    hessian = alpha * dense_hessian(model, BATCH) + decay * torch.eye(objective.size, dtype=torch.float64)
    if isinstance(trained.optimizer, Adam):
        root = preconditioner(trained.optimizer).rsqrt()
        hessian = root[:, None] * hessian * root
    assert trained.value("ratio") == pytest.approx(top(hessian) / threshold, rel=1e-6)
    # From the first reading on: before the first step the gradient stood there already.
    first = trained.monitor.record.series("threshold")[1][0]
    start = float(trained.monitor.record.series("gradient_norm")[1][0])
    assert first == pytest.approx(threshold / (clip_factor(start, 0.05) if scale is None else scale), rel=1e-6)


class Linear(nn.Module):
    """w, so that a quadratic can be its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w


def test_on_a_quadratic_that_is_clipped_the_threshold_is_known_in_closed_form() -> None:
    """L = (3 w1^2 + w2^2)/2 at learning rate 0.05, clipped to c = 0.1: 2 ||g||/(0.05 c), and h over it."""
    model = Linear()
    curvatures = torch.tensor([[3.0, 1.0]], dtype=torch.float64)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return 0.5 * (batch * model(torch.ones_like(batch)).square()).sum(-1).mean()

    optimizer = SGD(model.parameters(), lr=0.05)
    objective = Objective(model, loss, curvatures, path="kept", threads=1)
    monitor = Monitor(objective, optimizer, every=1, measures=["threshold", "ratio"])

    def train() -> None:
        for _ in range(5):
            optimizer.zero_grad()
            loss(model, curvatures).backward()
            clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            monitor.step()

    with pytest.warns(EdgescopeWarning, match=r"clipped to c = 0\.1"):
        train()
    w1, w2 = model.w.tolist()
    expected = 2 / (0.05 * clip_factor(math.hypot(3 * w1, w2), 0.1))
    assert monitor.value("threshold") == pytest.approx(expected, rel=1e-6)
    assert monitor.value("ratio") == pytest.approx(3 / expected, rel=1e-6)


def test_clipping_that_sets_in_and_ends_is_followed() -> None:
    model = small().double()
    trained = Trained(model, SGD(model.parameters(), lr=2.5))
    with pytest.warns(EdgescopeWarning, match=r"clipped to c = 0\.85"):
        trained.steps(25, before=lambda: clip_grad_norm_(model.parameters(), 0.85))
    thresholds = trained.monitor.record.series("threshold")[1]
    norms = trained.monitor.record.series("gradient_norm")[1]
    assert (norms > 0.85).any()
    assert (norms < 0.85).any()
    scaled = [0.8 / clip_factor(norm, 0.85) for norm in norms]
    # A reading knows of the step before it: where that was not clipped, it does not foresee that the next one will be.
    foreseen = [t for t in range(26) if t == 0 or norms[t - 1] > 0.85 * (1 + 2e-3) or norms[t] < 0.85]
    assert len(foreseen) > 15
    assert thresholds[foreseen] == pytest.approx([scaled[t] for t in foreseen], rel=1e-5)


@pytest.fixture
def rules() -> Iterator[None]:
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def halved(kind: type[torch.optim.Optimizer]) -> Any:
    """A subclass whose steps are half as long, which says that they are those of its base."""

    class Half(kind):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> None:
            members = [p for group in self.param_groups for p in group["params"]]
            before = [p.detach().clone() for p in members]
            super().step(closure)
            with torch.no_grad():
                for p, old in zip(members, before, strict=True):
                    p.copy_((p + old) / 2)

    return add_rule(Half, same_as=kind)


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_learning_rate_that_does_not_take_full_effect_is_seen(decay: float) -> None:
    model = small().double()
    trained = Trained(model, halved(SGD)(model.parameters(), lr=0.1, momentum=0.5, weight_decay=decay))
    with pytest.warns(EdgescopeWarning, match=r"steps are 0\.5 times those of the optimizer's rule") as told:
        trained.steps()
    assert len(told) == 1
    assert trained.value("threshold") == pytest.approx(2 * 3 / 0.1, rel=1e-6)
    ratio = (top(dense_hessian(model, BATCH)) + decay) / (2 * 3 / 0.1)
    assert trained.value("ratio") == pytest.approx(ratio, rel=1e-6)
    assert trained.value("step_ratio") == pytest.approx(0.5, rel=1e-6)


@pytest.mark.usefixtures("rules")
def test_half_steps_of_a_normalized_method_and_of_clipped_gradients() -> None:
    model = small().double()
    kind = halved(SteepestDescent)
    trained = Trained(model, kind(model.parameters(), lr=0.01, geometry="linf", normalized=True))
    with pytest.warns(EdgescopeWarning, match=r"steps are 0\.5 times"):
        trained.steps()
    assert trained.value("threshold") == pytest.approx(2 * 2 / 0.01, rel=1e-6)
    model = small().double()
    trained = Trained(model, halved(SGD)(model.parameters(), lr=0.1, weight_decay=0.3))
    with pytest.warns(EdgescopeWarning) as told:
        trained.steps(before=lambda: clip_grad_norm_(model.parameters(), 0.05))
    assert len(told) == 2
    alpha = clip_factor(float(trained.monitor.objective.gradient().norm()), 0.05)
    assert trained.value("threshold") == pytest.approx(2 * 2 / (0.1 * alpha), rel=1e-6)
    ratio = (alpha * top(dense_hessian(model, BATCH)) + 0.3) / (2 * 2 / 0.1)
    assert trained.value("ratio") == pytest.approx(ratio, rel=1e-6)


@pytest.mark.usefixtures("rules")
def test_trust_ratios_are_told_to_be_steps_of_another_kind() -> None:
    @lambda kind: add_rule(kind, same_as=SGD)
    class Layerwise(SGD):
        def step(self, closure: Any = None) -> None:
            for p in (p for group in self.param_groups for p in group["params"]):
                p.grad = p.grad * 0.01 * p.detach().norm() / p.grad.norm()
            super().step(closure)

    model = small().double()
    trained = Trained(model, Layerwise(model.parameters(), lr=1.0))
    with pytest.warns(EdgescopeWarning, match="not those of its rule") as told:
        trained.steps()
    assert len(told) == 1
    assert trained.value("step_ratio", "gradient") == pytest.approx(1, rel=1e-6), "as it was before the step"
    assert trained.value("threshold") == pytest.approx(2)


def test_mini_batches_are_noted_and_scale_nothing() -> None:
    model = small().double()
    trained = Trained(model, SGD(model.parameters(), lr=0.1))

    def batch(number: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(24, (6,), generator=torch.Generator().manual_seed(number))
        return BATCH[0][rows], BATCH[1][rows]

    trained.steps(loss=lambda number: backward(model, batch(number)))
    assert trained.value("threshold") == pytest.approx(20)
    assert trained.value("step_ratio", "gradient_cosine") < 0.999
    assert trained.value("step_ratio") == pytest.approx(1)
    assert trained.told == [("gradients", "direction")]
    assert trained.warned == []
    with pytest.warns(EdgescopeWarning, match="the threshold is a lower bound") as told:
        trained.steps(
            loss=lambda number: backward(model, batch(number)),
            before=lambda: clip_grad_norm_(model.parameters(), 0.02),
        )
    assert len(told) == 1
    assert trained.value("threshold") == pytest.approx(20)
    assert "lower bound" in trained.monitor.latest["ratio"].note
    assert "lower bound" in trained.monitor.latest["threshold"].note


def doubled(gradient: Tensor) -> Tensor:
    return 2 * gradient


def silent_changes(model: nn.Module, which: str) -> Callable[[], Any]:
    if which == "clipped by value":
        return lambda: clip_grad_value_(model.parameters(), 0.02)
    if which == "hook on one tensor":
        next(model.parameters()).register_hook(doubled)
    return lambda: None


@pytest.mark.parametrize("which", ["clipped by value", "hook on one tensor"])
def test_gradients_that_turn_are_noted_and_scale_nothing(which: str) -> None:
    model = small().double()
    change = silent_changes(model, which)
    with pytest.warns(EdgescopeWarning, match="gradients are not those of the objective"):
        trained = Trained(model, SGD(model.parameters(), lr=0.1)).steps(before=change)
    assert trained.value("threshold") == pytest.approx(20)
    assert trained.told == [("gradients", "direction"), ("gradients", "another loss")]


def test_hooks_that_double_every_gradient_are_a_factor_of_two() -> None:
    model = small().double()
    for p in model.parameters():
        p.register_hook(doubled)
    with pytest.warns(EdgescopeWarning, match="is 2 times that of the objective"):
        trained = Trained(model, SGD(model.parameters(), lr=0.1)).steps()
    assert trained.value("threshold") == pytest.approx(10)


def test_accumulation_without_dividing_is_a_factor_of_the_number_of_batches() -> None:
    model = small().double()
    trained = Trained(model, SGD(model.parameters(), lr=0.01))

    def accumulate(_: int) -> None:
        for part in range(4):
            backward(model, (BATCH[0][6 * part : 6 * part + 6], BATCH[1][6 * part : 6 * part + 6]))

    with pytest.warns(EdgescopeWarning, match="is 4 times"):
        trained.steps(loss=accumulate)
    assert trained.value("threshold") == pytest.approx(2 / 0.04)


def test_two_optimizers_that_are_clipped_together_and_each_by_itself() -> None:
    model = small().double()
    both = [SGD(model[0].parameters(), lr=0.1), Adam(model[2].parameters(), lr=0.01)]
    with pytest.warns(EdgescopeWarning, match=r"clipped to c = 0\.05") as told:
        trained = Trained(model, both).steps(before=lambda: clip_grad_norm_(model.parameters(), 0.05))
    assert len(told) == 1
    alpha = clip_factor(float(trained.monitor.objective.gradient().norm()), 0.05)
    assert trained.value("threshold") == pytest.approx(1 / alpha, rel=1e-6)
    trained.monitor.close()
    apart = Trained(model, both)

    def each() -> None:
        clip_grad_norm_(model[0].parameters(), 0.05)
        clip_grad_norm_(model[2].parameters(), 0.02)

    with pytest.warns(EdgescopeWarning, match=r"times .* \(SGD\) and .* \(Adam\), which is not accounted for"):
        apart.steps(before=each)
    assert apart.value("threshold") == 1


@pytest.mark.parametrize("kind", [lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.5), AdamW])
def test_parameters_without_a_gradient_are_left_where_they_are_by_rule_and_optimizer(kind: Any) -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = small(), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    model = Unused().double()
    trained = Trained(model, kind(model.parameters())).steps(12)
    assert trained.monitor.latest["step_ratio"].values == EXACT
    assert trained.monitor.notices.given() == []


def test_sparse_gradients_of_embeddings_are_gradients() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Tanh(), nn.Linear(4, 3)).double()
    tokens = torch.randint(6, (24,), generator=torch.Generator().manual_seed(0)), BATCH[1]
    trained = Trained(model, SGD(model.parameters(), lr=0.1), batch=tokens).steps(12)
    assert trained.monitor.latest["step_ratio"].values == EXACT
    assert trained.monitor.notices.given() == []
