"""A measurement leaves the model, the random generators and torch's settings exactly as they were."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from objective_problems import Net, build, known, labelled, mlp, relative
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective


class Writer(nn.Module):
    """A module whose forward pass writes into it: a plain attribute, a replaced buffer, a new buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.calls = 0
        self.register_buffer("average", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        self.calls += 1
        self.last = out
        self.average = 0.9 * self.average + 0.1 * out.detach().mean(0)
        self.register_buffer("seen", torch.ones(1))
        return out


def everything(model: nn.Module) -> dict[str, Any]:
    """All state of a model that a measurement could touch: values, and which objects hold them."""
    state: dict[str, Any] = {}
    for name, p in model.named_parameters():
        state[f"parameter {name}"] = (id(p), p.data_ptr(), p.detach().clone(), p.requires_grad, id(p.grad))
        state[f"gradient {name}"] = None if p.grad is None else p.grad.clone()
        state[f"hooks of {name}"] = list(p._backward_hooks or ())
    for name, b in model.named_buffers():
        state[f"buffer {name}"] = (id(b), b.clone())
    for name, part in model.named_modules():
        state[f"module {name}"] = {k: id(v) for k, v in part.__dict__.items() if k != "training"}
        state[f"mode of {name}"] = part.training
        state[f"hooks {name}"] = (list(part._forward_hooks), list(part._forward_pre_hooks), list(part._backward_hooks))
    return state


def surroundings() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "fastpath": torch.backends.mha.get_fastpath_enabled(),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "cudnn sdp": torch.backends.cuda.cudnn_sdp_enabled(),
        "cudnn": torch.backends.cudnn.enabled,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "dtype": torch.get_default_dtype(),
        "function modes": torch.overrides._get_current_function_mode_stack(),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def measure(objective: Objective) -> None:
    """Every public way to run the model."""
    objective.loss()
    objective.gradient()
    objective.hvp(torch.ones(objective.size, 3))
    objective.hvp(torch.ones(objective.size), objective.parameters() + 0.01)
    objective.plan(2)
    if hasattr(objective.loss_fn, "outputs"):
        objective.gnvp(torch.ones(objective.size, 2))
        objective.accuracy()
    objective.release()


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(9, 3)
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "batchnorm-train": (
        lambda: nn.Sequential(nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 3)),
        (1, 4),
        "train",
    ),
    "batchnorm-and-dropout-eval": (conv_net, (1, 4), "eval"),
    "transformer": (
        lambda: Net(lambda m, x: m.t(x).mean(1), t=nn.TransformerEncoderLayer(4, 2, 4, batch_first=True)),
        (3, 4),
        "eval",
    ),
    "lstm": (lambda: Net(lambda m, x: m.r(x)[0][:, -1], r=nn.LSTM(4, 3, batch_first=True)), (3, 4), "eval"),
    "spectral-norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))),
        (4,),
        "eval",
    ),
    "weight-norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))), (4,), "train"),
    "writes-into-itself": (Writer, (4,), "train"),
}


@pytest.mark.parametrize("path", ["auto", "kept", "rebuilt"])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_left_as_it_was(name: str, path: str) -> None:
    torch.manual_seed(0)
    make, shape, mode = MODELS[name]
    model = make()
    parts = list(model.modules())
    for part in parts:  # mixed modes, as a user with frozen layers has them
        part.training = random.Random(len(parts)).random() < 0.5
    trainable = list(model.parameters())
    trainable[-1].grad = torch.full_like(trainable[-1], 7.0)
    handles = [model.register_forward_hook(lambda *_: None), trainable[0].register_hook(lambda g: g * 1e9)]
    before, around = everything(model), surroundings()
    objective = Objective(
        model, supervised(nn.functional.cross_entropy), [labelled(6, *shape), labelled(4, *shape)], mode=mode, path=path
    )
    around["torch"] = torch.get_rng_state()  # the data above were drawn from it
    measure(objective)
    assert same(everything(model), before)
    assert same(surroundings(), around)
    for handle in handles:
        handle.remove()


def test_a_failed_measurement_leaves_all_as_it_was() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.rand(1)
            raise RuntimeError("broken on purpose")

    model = nn.Sequential(nn.BatchNorm1d(4), Fails()).train()
    data = labelled(6, 4)
    before, around = everything(model), surroundings()
    with pytest.raises(Exception, match="broken on purpose"):
        Objective(model, supervised(half_mse), data)
    assert same(everything(model), before)
    assert same(surroundings(), around)


def test_random_numbers_in_data_and_loss_are_put_back() -> None:
    """A loader with a generator of its own, a loss that draws and ignores numbers from everywhere."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5)
    x, y = labelled(10, 4)
    loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True, generator=generator)
    criterion = supervised(half_mse)

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
        return criterion(model, batch)

    state, around = generator.get_state(), surroundings()
    objective = Objective(mlp(), loss_fn, loader)
    around["torch"] = torch.get_rng_state()  # mlp() drew from it
    measure(objective)
    assert torch.equal(generator.get_state(), state)
    assert same(surroundings(), around)


def test_streamed_data_are_read_without_moving_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgescope.objective.batches.available", lambda device: 0)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5)
    x, y = labelled(10, 4)
    loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True, generator=generator)
    model = mlp()
    state, around = generator.get_state(), surroundings()
    objective = Objective(model, supervised(half_mse), loader, dtype=torch.float64)
    measure(objective)
    assert torch.equal(generator.get_state(), state)
    assert same(surroundings(), around)
    whole = Objective(model, supervised(half_mse), (x, y), dtype=torch.float64)
    V = torch.randn(whole.size, 2, dtype=torch.float64)
    assert relative(objective.hvp(V), whole.hvp(V)) < 1e-12


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("threads", ["auto", 1, 2, None])
def test_the_number_of_threads_is_given_back(threads: Any) -> None:
    case = build("mlp-half-mse")
    measure(Objective(case.model, case.loss_fn, case.batches, threads=threads))
    assert torch.get_num_threads() == 2


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference-mode-and-autocast": lambda: _both(),
}


def _both() -> AbstractContextManager[Any]:
    stack = ExitStack()
    stack.enter_context(torch.inference_mode())
    stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
    return stack


@pytest.mark.parametrize("path", ["kept", "rebuilt", "forward"])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("made", ["inside", "outside"])
def test_the_callers_context_does_not_matter(context: str, path: str, made: str) -> None:
    case, dense = known("transformer-pre-norm" if path == "kept" else "cross-entropy-8+2")
    outside = Objective(case.model, case.loss_fn, case.batches, path=path, threads=1) if made == "outside" else None
    with CONTEXTS[context]():
        around = surroundings()
        objective = outside or Objective(case.model, case.loss_fn, case.batches, path=path, threads=1)
        V = torch.randn(objective.size, 2)
        around["torch"] = torch.get_rng_state()
        for _ in range(2):  # the second product draws on kept graphs, whose backward autocast would round
            assert relative(objective.hvp(V), dense.hessian @ V.double()) < 2e-5
            assert relative(objective.gnvp(V), objective.gnvp(V)) == 0
        assert relative(objective.gradient(), dense.gradient) < 2e-5
        assert relative(objective.loss(), dense.loss) < 1e-6
        assert same(surroundings(), around)
    assert relative(objective.hvp(V), dense.hessian @ V.double()) < 2e-5


def test_model_and_data_made_in_inference_mode() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        model, data = mlp(), labelled(6, 4)
        objective = Objective(model, supervised(half_mse), data)
        inside = objective.hvp(torch.ones(objective.size))
    assert relative(objective.hvp(torch.ones(objective.size)), inside) < 1e-6


def test_vectors_that_carry_gradients_leave_no_graph() -> None:
    case = build("mlp-half-mse")
    objective = Objective(case.model, case.loss_fn, case.batches, l2=0.1)
    V = torch.ones(objective.size, 2, requires_grad=True)
    w = objective.parameters().requires_grad_()
    for found in (objective.hvp(V), objective.gnvp(V), objective.gradient(w), objective.loss(w), objective.hvp(V, w)):
        assert not found.requires_grad
    assert V.grad is None


def test_results_belong_to_the_caller() -> None:
    """Changing what a measurement returned does not change the next one."""
    case = build("mlp-half-mse")
    objective = Objective(case.model, case.loss_fn, case.batches, path="kept")
    V = torch.ones(objective.size)
    first = [objective.loss(), objective.gradient(), objective.hvp(V), objective.parameters()]
    copies = [value.clone() for value in first]
    for value in first:
        value.add_(1.0)
    again = [objective.loss(), objective.gradient(), objective.hvp(V), objective.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(again, copies, strict=True))


def test_training_goes_on_bit_for_bit() -> None:
    """Ten steps of training with dropout and a measurement at every step: the same weights as without."""

    def train(measured: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model, (x, y) = conv_net(), labelled(8, 1, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        objective = Objective(model, supervised(half_mse), (x, y)) if measured else None
        for _ in range(10):
            optimizer.zero_grad()
            half_mse(model(x), y).backward()
            optimizer.step()
            if objective is not None:
                measure(objective)
        return [t.clone() for t in model.state_dict().values()]

    assert all(torch.equal(a, b) for a, b in zip(train(True), train(False), strict=True))
