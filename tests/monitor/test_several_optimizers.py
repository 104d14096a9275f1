"""Several optimizers of one model: their threshold, ratio and effective sharpness against dense matrices in float64."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from monitor_runs import LOSS, backward, data, dense_hessian, noticed, objective_of, small
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Muon

from edgescope.errors import EdgescopeWarning
from edgescope.monitor import Monitor
from edgescope.optim import SAM, Langevin, rule_for

BATCH = data(dtype=torch.float64)
MEASURES = ["threshold", "effective_sharpness:tol=1e-9", "ratio:tol=1e-9", "step_ratio"]
Optimizers = Sequence[torch.optim.Optimizer]


def watched(model: nn.Module, optimizers: Any, **more: Any) -> Monitor:
    return Monitor(objective_of(model, BATCH, **more), optimizers, every=1, measures=MEASURES)


def train(model: nn.Module, optimizers: Optimizers, monitor: Monitor, steps: int = 3, partly: bool = False) -> None:
    with noticed("no optimizer steps") if partly else contextlib.nullcontext():
        for _ in range(steps):
            model.zero_grad()
            backward(model, BATCH)
            for optimizer in optimizers:
                optimizer.step()
            monitor.step()


def gauged(optimizer: torch.optim.Optimizer, p: Tensor) -> Tensor:
    """P (2 - eta lambda)/(eta Gamma) of one tensor, written out; infinite at learning rate 0."""
    group = next(group for group in optimizer.param_groups if any(p is q for q in group["params"]))
    lr, one = group["lr"], torch.ones_like(p).flatten()
    if lr == 0:
        return one * math.inf
    if isinstance(optimizer, SGD):
        beta, nesterov = group["momentum"], group["nesterov"]
        return one * 2 * (1 + beta) / ((1 + 2 * beta if nesterov else 1) * lr)
    beta1, beta2 = group["betas"]
    state = optimizer.state[p]
    step = float(state["step"])
    root = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt() + group["eps"]
    decay = group["weight_decay"] if isinstance(optimizer, AdamW) else 0.0
    preconditioner = (1 - beta1**step) * root.flatten()
    return preconditioner * (2 - lr * decay) * (1 + beta1) / (lr * (1 - beta1))


def edge(hessian: Tensor, scales: Tensor) -> float:
    """The largest eigenvalue of M^(-1/2) H M^(-1/2); of no direction at all it is 0."""
    root = scales.rsqrt()
    scaled = root[:, None] * hessian * root
    kept = scales.isfinite()
    return max(0.0, float(torch.linalg.eigvalsh(scaled[kept][:, kept])[-1])) if bool(kept.any()) else 0.0


def expected(model: nn.Module, optimizers: Optimizers) -> dict[str, float]:
    """The ratio of all together, and that of each optimizer while the parameters of the others stand still."""
    hessian, names = dense_hessian(model, BATCH), [type(one).__name__ for one in optimizers]
    pieces: dict[str, list[Tensor]] = {name: [] for name in ["", *names]}
    for p in (p for p in model.parameters() if p.requires_grad):
        still = torch.full((p.numel(),), math.inf, dtype=torch.float64)
        owner = next((one for one in optimizers if any(p is q for g in one.param_groups for q in g["params"])), None)
        own = still if owner is None else gauged(owner, p).double()
        for name in pieces:
            mine = owner is not None and name in ("", type(owner).__name__)
            pieces[name].append(own if mine else still)
    return {name: edge(hessian, torch.cat(parts)) for name, parts in pieces.items()}


def parts_of(model: nn.Sequential) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    return list(model[0].parameters()), list(model[2].parameters())


PAIRS: dict[str, Callable[[nn.Sequential], Optimizers]] = {
    "sgd and adam": lambda m: (SGD(parts_of(m)[0], lr=0.3), Adam(parts_of(m)[1], lr=0.02)),
    "momentum and adamw": lambda m: (
        SGD([m[0].weight, m[2].weight], lr=0.1, momentum=0.9),
        AdamW([m[0].bias, m[2].bias], lr=0.03, weight_decay=0.5, betas=(0.8, 0.9)),
    ),
    "groups of different momenta": lambda m: (
        SGD(
            [
                {"params": [m[0].weight], "momentum": 0.9, "nesterov": True, "lr": 0.2},
                {"params": [m[0].bias], "momentum": 0.5},
            ],
            lr=0.1,
        ),
        Adam([{"params": [m[2].weight], "betas": (0.5, 0.99)}, {"params": [m[2].bias]}], lr=0.01),
    ),
    "one at learning rate 0": lambda m: (SGD(parts_of(m)[0], lr=0.3), Adam(parts_of(m)[1], lr=0.0)),
    "one group at learning rate 0": lambda m: (
        SGD([{"params": [m[0].weight], "lr": 0.0}, {"params": [m[0].bias]}], lr=0.3),
        Adam(parts_of(m)[1], lr=0.02),
    ),
    "some held by none": lambda m: (SGD([m[0].weight], lr=0.3), AdamW([m[2].weight], lr=0.02)),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PAIRS)
def test_ratios_of_two_optimizers_are_those_of_dense_matrices(name: str, seed: int) -> None:
    model = small(seed).double()
    optimizers = PAIRS[name](model)
    monitor = watched(model, optimizers)
    train(model, optimizers, monitor, partly=name == "some held by none")
    ratios = expected(model, optimizers)
    readings = monitor.latest
    assert readings["ratio"].values == pytest.approx(ratios, rel=1e-6, abs=1e-12)
    for part, ratio in ratios.items():
        threshold, sharpness = (readings[m].values[part] for m in ("threshold", "effective_sharpness"))
        assert sharpness / threshold == pytest.approx(ratio, rel=1e-6, abs=1e-12)
    assert readings["threshold"].values[""] == 1
    assert readings["step_ratio"].values == pytest.approx(
        {"": 1, "cosine": 1, "gradient": 1, "gradient_cosine": 1}, rel=1e-6
    )
    assert monitor.notices.given() == [("optimizer", "not held")] * (name == "some held by none")


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_the_ratio_of_part_of_the_parameters_is_that_of_the_directions_that_are_trained(kind: type) -> None:
    model = small().double()
    optimizer = kind(parts_of(model)[1], lr=0.05)
    monitor = watched(model, optimizer)
    train(model, [optimizer], monitor, partly=True)
    ratio = expected(model, [optimizer])[""]
    assert monitor.value("ratio") == pytest.approx(ratio, rel=1e-6)
    whole = expected(model, [kind(model.parameters(), lr=0.05)])[""] if kind is SGD else math.inf
    assert ratio < whole


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_at_learning_rate_0_the_threshold_is_infinite_and_the_ratio_0(kind: type) -> None:
    model = small().double()
    optimizer = kind(model.parameters(), lr=0.0)
    monitor = watched(model, optimizer)
    train(model, [optimizer], monitor, 12)
    assert (monitor.value("threshold"), monitor.value("ratio")) == (math.inf, 0)
    monitor.close()
    both = [kind(part, lr=0.0) for part in parts_of(model)]
    several = watched(model, both)
    train(model, both, several, 12)
    name = kind.__name__
    assert several.latest["threshold"].values == {"": math.inf, name: math.inf, f"{name}-2": math.inf}
    assert set(several.latest["ratio"].values.values()) == {0.0}
    assert monitor.notices.given() == several.notices.given() == []


def test_muon_beside_adamw_has_the_ratio_of_the_blocks_in_their_own_metrics() -> None:
    model = small().double()
    matrices, vectors = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
    optimizers = Muon(matrices, lr=0.02), AdamW(vectors, lr=0.01)
    with pytest.warns(EdgescopeWarning, match="a heuristic"):
        monitor = watched(model, optimizers)
    train(model, optimizers, monitor)
    hessian = dense_hessian(model, BATCH)
    for part, chosen in (("", optimizers), ("Muon", optimizers[:1]), ("AdamW", optimizers[1:])):
        rule = rule_for(list(chosen), monitor.objective.tensors)
        metric = rule.metric()
        assert metric is not None
        root = metric.inverse_root(torch.eye(len(hessian), dtype=torch.float64))
        value = max(0.0, float(torch.linalg.eigvalsh(root.T @ hessian @ root)[-1]))
        assert monitor.value("ratio", part) == pytest.approx(value / rule.threshold().value, rel=1e-6)
    # Torch runs Muon's iteration in bfloat16, and its steps are those of the rule to about a hundredth.
    assert monitor.value("step_ratio") == pytest.approx(1, abs=0.05)
    assert monitor.latest["threshold"].values[""] == 1
    assert [kind for kind, _ in monitor.notices.given()] == ["threshold"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_optimizers_that_step_in_turns_are_compared_with_what_each_of_them_did(order: tuple[int, int]) -> None:
    """As generator and discriminator do: one steps every fifth time, on a gradient taken after the other's step."""
    model = small().double()
    often, seldom = SGD(parts_of(model)[0], lr=0.4), Adam(parts_of(model)[1], lr=0.05)
    monitor = watched(model, [(often, seldom)[i] for i in order])
    for number in range(10):
        for optimizer in (often, seldom)[: 2 if number % 5 == 4 else 1]:
            model.zero_grad()
            backward(model, BATCH)
            optimizer.step()
        monitor.step()
        if number % 5 == 4:
            assert monitor.latest["ratio"].values == pytest.approx(expected(model, [often, seldom]), rel=1e-6)
    lengths = monitor.record.series("step_ratio")[1]
    assert lengths == pytest.approx([1.0] * 10, rel=1e-6)
    assert monitor.steps == 10
    assert [notice for notice in monitor.notices if notice.warned] == []


def test_an_optimizer_of_other_parameters_takes_nothing_from_the_rule_of_those_measured() -> None:
    model = small().double()
    head, body = SGD(parts_of(model)[1], lr=0.2, momentum=0.9), torch.optim.Adagrad(parts_of(model)[0], lr=0.01)
    for given in (head, [head, body]):
        monitor = watched(model, given, params="2.*")
        train(model, [body, head], monitor)
        size = sum(p.numel() for p in parts_of(model)[1])
        largest = float(torch.linalg.eigvalsh(dense_hessian(model, BATCH)[-size:, -size:])[-1])
        assert monitor.value("ratio") == pytest.approx(largest / (3.8 / 0.2), rel=1e-6)
        assert monitor.steps == 3
        assert monitor.notices.given() == []
        monitor.close()


def test_one_that_nobody_described_leaves_the_parts_of_the_others() -> None:
    model = small().double()
    optimizers = SGD(parts_of(model)[0], lr=0.3), torch.optim.Rprop(parts_of(model)[1])
    with pytest.warns(EdgescopeWarning, match="the threshold of Rprop is not known") as told:
        monitor = watched(model, optimizers)
    assert len(told) == 1
    train(model, optimizers, monitor)
    size = sum(p.numel() for p in parts_of(model)[0])
    alone = float(torch.linalg.eigvalsh(dense_hessian(model, BATCH)[:size, :size])[-1]) / (2 / 0.3)
    assert monitor.latest["ratio"].values == pytest.approx({"SGD": alone}, rel=1e-6)
    assert monitor.latest["threshold"].values == {"SGD": pytest.approx(2 / 0.3)}
    assert "Rprop" in monitor.latest["ratio"].note
    assert len(monitor.notices.given()) == 1


def framework_wrapper(package: str, attribute: str) -> type:
    """What a framework puts around an optimizer, made without the framework."""

    def make(self: Any, optimizer: Any) -> None:
        setattr(self, attribute, optimizer)

    inner = property(lambda self: getattr(self, attribute))
    body = {
        "__init__": make,
        "step": lambda self, closure=None: inner.fget(self).step(closure),
        "param_groups": property(lambda self: inner.fget(self).param_groups),
        "__module__": ModuleType(f"{package}.optimizer").__name__,
    }
    return type("Wrapper", (), body)


@pytest.mark.parametrize(
    ("package", "attribute"),
    [("accelerate", "optimizer"), ("lightning", "_optimizer"), ("lightning_fabric", "optimizer")],
)
def test_wrappers_of_frameworks_are_seen_through(package: str, attribute: str) -> None:
    wrap = framework_wrapper(package, attribute)
    model = small().double()
    inner = SGD(parts_of(model)[0], lr=0.3), Adam(parts_of(model)[1], lr=0.02)
    wrapped = [wrap(wrap(one)) for one in inner]
    monitor = watched(model, wrapped)
    train(model, wrapped, monitor)
    assert monitor.optimizers == list(inner)
    assert monitor.value("ratio") == pytest.approx(expected(model, inner)[""], rel=1e-6)
    one = watched(model, wrap(inner[0]))
    assert one.optimizers == [inner[0]]
    with noticed():
        one.close()


def test_noise_beside_the_gradient_and_steps_of_sam_are_no_fault_of_the_optimizer() -> None:
    for make in (
        lambda p: Langevin(p, lr=0.05, temperature=0.1),
        lambda p: SAM(p, SGD, lr=0.1, rho=0.05),
        lambda p: torch.optim.LBFGS(p, lr=0.1),
    ):
        model = small().double()
        optimizer = make(model.parameters())
        with noticed():
            monitor = watched(model, optimizer)
        known = monitor.notices.given()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(4):
                optimizer.zero_grad()
                optimizer.step(lambda m=model, o=optimizer: (o.zero_grad(), LOSS(m, BATCH).backward(), 1.0)[2])
                monitor.step()
        assert monitor.notices.given() == known
        assert monitor.steps == 4
