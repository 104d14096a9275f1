"""An objective puts parameters into the model from outside: refused where the loss gets at them by another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import agrees, at_once, refused
from objective_problems import Net, labelled, mlp, plain_attention, relative
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from edgescope.errors import EdgescopeError, InputError, NotDeterministicError, NotDifferentiableError
from edgescope.losses import supervised
from edgescope.objective import Objective

LOSS = supervised(F.cross_entropy)
Problem = tuple[nn.Module, Callable[[nn.Module, Any], Tensor]]


def penalty(tensors: list[Tensor], weight: float) -> Callable[[nn.Module, Any], Tensor]:
    return lambda m, b: F.cross_entropy(m(b[0]), b[1]) + weight * sum(t.square().sum() for t in tensors)


class Keeps(nn.Module):
    """A layer that keeps its weight in a second place, and uses it from there."""

    def __init__(self, keep: Callable[[nn.Linear], Any], use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.use = use
        object.__setattr__(self, "kept", keep(self.layer))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.use(self.kept, x)


class Caches(nn.Module):
    """A layer that computes its weight once and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.cache = nn.Linear(4, 3), None

    def forward(self, x: Tensor) -> Tensor:
        if self.cache is None:
            self.cache = 2 * self.layer.weight
        return F.linear(x, self.cache, self.layer.bias)


def used_before(model: nn.Module) -> nn.Module:
    model(torch.randn(2, 4))
    return model


def in_a_closure(weight: float, kind: torch.dtype = torch.float32) -> Problem:
    model = mlp().to(kind)
    return model, penalty(list(model.parameters()), weight)


def computed_before() -> Problem:
    """A penalty whose graph leads to the model's own weights, too weak to be seen in the gradient."""
    model = mlp()
    weak = 1e-6 * model[0].weight.square().sum()
    return model, lambda m, b: F.cross_entropy(m(b[0]), b[1]) + weak


def at_zero() -> Problem:
    """Neither the loss nor the gradient shows the penalty here, and the curvature would lack it."""
    model = mlp()
    nn.init.zeros_(model[2].weight)
    return model, penalty([model[2].weight], 0.1)


def some_in_half_precision() -> Problem:
    net = Net(
        lambda m, x: m.b(m.a(x.to(m.a.weight.dtype)).to(m.b.weight.dtype).tanh()),
        a=nn.Linear(4, 4).bfloat16(),
        b=nn.Linear(4, 3),
    )
    return net, penalty([net.b.weight], 0.1)


REACHED: dict[str, Callable[[], Problem]] = {
    "list": lambda: (Keeps(lambda own: [own.weight], lambda k, x: F.linear(x, k[0])), LOSS),
    "attribute": lambda: (Keeps(lambda own: own.weight, lambda k, x: F.linear(x, k)), LOSS),
    "dict-of-all": lambda: (Keeps(lambda own: dict(own.named_parameters()), lambda k, x: x @ k["weight"].T), LOSS),
    "detached-alias": lambda: (Keeps(lambda own: own.weight.detach(), lambda k, x: F.linear(x, k)), LOSS),
    "alias-of-a-part": lambda: (Keeps(lambda own: own.weight.data[:, 1:], lambda k, x: F.linear(x[:, 1:], k)), LOSS),
    "cache": lambda: (used_before(Caches()), LOSS),
    "cache-of-the-first-call": lambda: (Caches(), LOSS),
    "computed-before": computed_before,
    "closure": lambda: in_a_closure(0.1),
    "closure-of-weak-decay": lambda: in_a_closure(1e-6),
    "closure-in-double": lambda: in_a_closure(1e-6, torch.float64),
    "closure-in-half": lambda: in_a_closure(1e-3, torch.bfloat16),
    "closure-at-zero": at_zero,
    "closure-mixed-precision": some_in_half_precision,
}


@pytest.mark.parametrize("name", REACHED)
def test_parameters_that_are_reached_another_way(name: str) -> None:
    torch.manual_seed(0)
    model, loss_fn = REACHED[name]()
    before = [p.clone() for p in model.parameters()]
    refused(InputError, "depends on '", "by another way", make=lambda: Objective(model, loss_fn, labelled(8, 4)))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_the_parameters_that_are_reached_are_named() -> None:
    model = mlp()
    loss_fn = penalty([model[2].bias, model[0].weight], 0.1)
    refused(InputError, "'0.weight', '2.bias'", make=lambda: Objective(model, loss_fn, labelled(8, 4)))
    # The others are constants, whichever way the loss gets at them.
    x, y = labelled(8, 4)
    objective = Objective(model.double(), loss_fn, (x.double(), y), params="0.bias")
    live = torch.autograd.grad(loss_fn(model, (x.double(), y)), model[0].bias)[0]
    assert relative(objective.gradient(), live) < 1e-12


class Refreshes(nn.Module):
    """A layer with a detached copy of its own weight, taken anew at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * F.linear(x, self.layer.weight.detach().clone())


def with_memory(after: int) -> nn.Module:
    """A hook that counts calls, and changes the output from some call on."""
    model, calls = mlp(), []

    def hook(part: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        calls.append(1)
        return output * len(calls) if len(calls) > after else None

    model.register_forward_hook(hook)
    return model


def test_other_losses_that_are_no_function_of_the_parameters() -> None:
    torch.manual_seed(0)
    data = labelled(8, 4)
    other = mlp()
    refused(
        InputError,
        "does not depend",
        "argument `model`",
        make=lambda: Objective(mlp(), lambda m, b: F.cross_entropy(other(b[0]), b[1]), data),
    )
    refused(NotDeterministicError, "two evaluations", make=lambda: Objective(with_memory(0), LOSS, data))
    refused(EdgescopeError, make=lambda: Objective(with_memory(10), LOSS, data))
    model = nn.Sequential(Refreshes())
    objective = Objective(model, LOSS, data)  # its gradient is that of training
    refused(NotDifferentiableError, "finite differences of its gradient", make=lambda: objective.hvp(torch.ones(15)))


class Clamps(nn.Module):
    def __init__(self, captured: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.captured = [self.layer.weight] if captured else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.captured[0] if self.captured else self.layer.weight
        weight.data.clamp_(-0.1, 0.1)
        return self.layer(x)


@pytest.mark.parametrize("captured", [False, True])
def test_a_forward_pass_that_rewrites_parameters_is_refused_and_undone(captured: bool) -> None:
    torch.manual_seed(0)
    model = Clamps(captured)
    before = model.layer.weight.detach().clone()
    refused(InputError, "rewrites its parameters", make=lambda: Objective(model, LOSS, labelled(8, 4)))
    assert torch.equal(model.layer.weight, before)


# ------------------------------------------------------------------------------------------------- no false alarms


class Counts(nn.Module):
    """Buffers that the forward pass writes to, and a plain counter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), 0
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("number", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        self.calls += 1
        self.number += 1
        self.average.lerp_(out.detach().mean(0), 0.1)
        return out


def tied() -> nn.Module:
    net = Net(lambda m, x: m.c(m.b(m.a(x).tanh()).tanh()), a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 3))
    net.b.weight = net.a.weight
    return net


def attribute_of_a_parent() -> nn.Module:
    net = Net(lambda m, x: F.linear(x, m.weight, m.layer.bias), layer=nn.Linear(4, 3))
    net.weight = net.layer.weight
    return net


def parametrized(apply: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(apply(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3))


def sequence(part: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module:
    return Net(
        lambda m, x: m.head(call(m.part, x[:, None] * torch.arange(1, 4)[:, None])), part=part, head=nn.Linear(4, 3)
    )


@contextmanager
def old_weight_norm() -> Iterator[None]:
    with pytest.warns(FutureWarning, match="weight_norm"):
        yield


def weight_norm_by_hook() -> nn.Module:
    with old_weight_norm():
        return parametrized(nn.utils.weight_norm)


def checkpointed() -> nn.Module:
    return Net(
        lambda m, x: m.b(checkpoint(lambda t: m.a(t).tanh(), x, use_reentrant=False)),
        a=nn.Linear(4, 5),
        b=nn.Linear(5, 3),
    )


def watched() -> nn.Module:
    """Hooks that read outputs and, past the module, its weight."""
    model, seen = mlp(), []
    weight = model[0].weight
    model[0].register_forward_hook(lambda part, inputs, output: seen.append(float(weight.detach().norm())))
    model.register_forward_pre_hook(lambda part, inputs: seen.append(float(inputs[0].sum())))
    return model


FINE: dict[str, Callable[[], nn.Module]] = {
    "tied": tied,
    "registered-twice": attribute_of_a_parent,
    "weight-norm": lambda: parametrized(parametrizations.weight_norm),
    "weight-norm-hook": weight_norm_by_hook,
    "spectral-norm": lambda: parametrized(parametrizations.spectral_norm),
    "spectral-norm-hook": lambda: parametrized(nn.utils.spectral_norm),
    "orthogonal": lambda: parametrized(parametrizations.orthogonal),
    "buffers": Counts,
    "checkpointed": checkpointed,
    "watched": watched,
    "copy-at-construction": lambda: Keeps(lambda own: own.weight.detach().clone(), lambda k, x: F.linear(x, k)),
    "unregistered-layer": lambda: Keeps(lambda own: [nn.Linear(4, 3)], lambda k, x: k[0](x)),
    "attention": lambda: sequence(nn.MultiheadAttention(4, 2, batch_first=True), lambda p, x: p(x, x, x)[0].mean(1)),
    "encoder": lambda: sequence(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 3, batch_first=True), 1), lambda p, x: p(x).mean(1)
    ),
    "lstm": lambda: sequence(nn.LSTM(4, 4, batch_first=True), lambda p, x: p(x)[0][:, -1]),
}


@pytest.mark.parametrize("name", FINE)
def test_models_that_are_what_they_seem(name: str) -> None:
    torch.manual_seed(0)
    model = FINE[name]().double().eval()
    if name == "copy-at-construction":
        object.__setattr__(model, "kept", model.kept.double())
    if name == "unregistered-layer":
        model.kept[0].double()
    x, y = labelled(8, 4)
    objective = Objective(model, LOSS, (x.double(), y), path="rebuilt", threads=1)
    with plain_attention():
        if "weight-norm" in name:  # whose second derivative in torch is wrong
            model(x.double())
            live = torch.autograd.grad(LOSS(model, (x.double(), y)), objective.tensors)
            assert relative(objective.gradient(), torch.cat([g.flatten() for g in live])) < 1e-9
        else:
            agrees(objective, at_once(model, LOSS, (x.double(), y)))


@pytest.mark.parametrize("path", ["kept", "rebuilt", "forward"])
def test_checkpointed_activations_away_from_the_live_parameters(path: str) -> None:
    """What a backward pass recomputes, it must not compute from the model's own parameters."""
    torch.manual_seed(0)
    model, (x, y) = checkpointed().double(), labelled(8, 4)
    objective = Objective(model, LOSS, (x.double(), y), path=path)
    w = objective.parameters() + 0.3
    V = torch.randn(objective.size, 2, dtype=torch.float64)
    found = objective.gradient(w), objective.hvp(V, w)
    objective.assign(w)
    live = at_once(model, LOSS, (x.double(), y))
    assert relative(found[0], live.gradient) < 1e-9
    assert relative(found[1], live.hessian @ V) < 1e-9


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), nn.DataParallel], ids=["compiled", "dp"])
def test_losses_that_use_the_model_outside(wrap: Callable[[nn.Module], nn.Module]) -> None:
    """A loss function that ignores its argument, for the same model or a wrapper of it."""
    torch.manual_seed(0)
    model, (x, y) = mlp().double(), labelled(8, 4)
    outer = wrap(model)
    live = at_once(model, LOSS, (x.double(), y))
    for used in (model, outer):
        agrees(Objective(outer, lambda m, b, u=used: F.cross_entropy(u(b[0]), b[1]), (x.double(), y)), live)
        agrees(Objective(model, lambda m, b, u=used: F.cross_entropy(u(b[0]), b[1]), (x.double(), y)), live)


def test_hooks_on_parameters_are_not_called_and_stay() -> None:
    torch.manual_seed(0)
    model, data, calls = mlp(), labelled(8, 4), []
    weight, bias = model[0].weight, model[0].bias
    weight.register_hook(lambda g: calls.append("gradient") or 1e9 * g)
    weight.register_post_accumulate_grad_hook(lambda p: calls.append("accumulated"))
    torch.autograd.graph.register_multi_grad_hook([weight, bias], lambda grads: calls.append("several"))
    objective = Objective(model, LOSS, data)
    objective.gradient(), objective.hvp(torch.ones(objective.size)), objective.loss()
    assert calls == []
    LOSS(model, data).backward()
    assert sorted(calls) == ["accumulated", "gradient", "several"]
    clean = torch.autograd.grad(LOSS(model, data), model[2].weight)[0]
    assert relative(objective.gradient()[objective.layout[2].slice], clean.flatten()) < 1e-5
    assert weight.grad.abs().max() > 1e3


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("measured", [None, torch.float64])
def test_precisions(kind: torch.dtype, measured: torch.dtype | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)).to(kind)
    x, y = labelled(8, 4)
    objective = Objective(model, LOSS, (x.to(kind), y), dtype=measured)
    assert objective.dtype == (measured or torch.promote_types(kind, torch.float32))
    wide = model.double()
    slack = 1e-9 if objective.dtype == torch.float64 else 1e-5
    agrees(objective, at_once(wide, LOSS, (x.to(kind).double(), y)), slack)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_whatever_the_caller_has_switched_on(context: str) -> None:
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double(), labelled(8, 4)
    live = at_once(model.train(), LOSS, (x.double(), y))
    with CONTEXTS[context]():
        agrees(Objective(model, LOSS, (x.double(), y)), live)


def test_deterministic_algorithms() -> None:
    torch.manual_seed(0)
    model, (x, y) = mlp().double(), labelled(8, 4)
    torch.use_deterministic_algorithms(True)
    try:
        agrees(Objective(model, LOSS, (x.double(), y)), at_once(model, LOSS, (x.double(), y)))
    finally:
        torch.use_deterministic_algorithms(False)
