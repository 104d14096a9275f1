"""``edgescope inspect``: its figures against dense float64 algebra, its verdicts, and what it must refuse."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from said import Run, Said
from torch import Tensor, nn
from torch.func import functional_call

from edgescope.cli.weights import Weights, put_weights, read_weights

MODULE = """
import torch
from torch import nn

import edgescope
from edgescope.losses import half_mse, supervised


def batch():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(30, 3, generator=generator), torch.randint(0, 2, (30,), generator=generator)


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def parts():
    return network(), supervised(half_mse), batch()


def objective():
    return edgescope.Objective(*parts(), threads=1)


def fails():
    raise KeyError("no data\\nhere")


def number():
    return 3


def other_shapes():
    model, loss, (inputs, targets) = parts()
    return model, loss, (inputs[:, :2], targets)


class Mute(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x) / 0.0


not_a_function = 7
"""


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch executed",))


@pytest.fixture
def ask(run: Run, here: Path) -> Any:
    (here / "users_net.py").write_text(MODULE)

    def invoke(checkpoint: object, *more: object, objective: str = "users_net:parts") -> Said:
        return run("inspect", checkpoint, "--objective", objective, "--k", 3, *more)

    return invoke


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def dense(model: nn.Module) -> tuple[Tensor, float, Tensor]:
    """Hessian, loss and gradient in float64, by double backward through the loss written out."""
    generator = torch.Generator().manual_seed(5)
    inputs, targets = torch.randn(30, 3, generator=generator), torch.randint(0, 2, (30,), generator=generator)
    wanted = nn.functional.one_hot(targets, 2).double()
    names = [(name, p.shape) for name, p in model.named_parameters()]
    flat = torch.cat([p.detach().double().flatten() for p in model.parameters()])

    def loss(w: Tensor) -> Tensor:
        pieces = w.split([shape.numel() for _, shape in names])
        put_in = {name: piece.view(shape) for (name, shape), piece in zip(names, pieces, strict=True)}
        return 0.5 * (functional_call(model, put_in, (inputs.double(),)) - wanted).square().sum() / 30

    return torch.autograd.functional.hessian(loss, flat), float(loss(flat)), torch.func.grad(loss)(flat)


def answer(said: Said) -> dict[str, Any]:
    assert said.code == 0, said
    return json.loads(said.out)


@pytest.mark.parametrize(
    ("seed", "dtype", "tolerance"), [(0, "float64", 1e-5), (1, "float64", 1e-5), (2, "float32", 2e-4)]
)
def test_figures_are_those_of_the_dense_hessian(ask: Any, here: Path, seed: int, dtype: str, tolerance: float) -> None:
    model = network(seed)
    torch.save(model.state_dict(), here / "a.pt")
    found = answer(ask("a.pt", "--dtype", dtype, "--json"))
    matrix, loss, gradient = dense(model)
    values = torch.linalg.eigvalsh(matrix).flip(0)
    scale = float(values.abs().max())
    for end, expected in (("largest", values[:3]), ("smallest", values[-3:])):
        got = torch.tensor([pair["value"] for pair in found[end]], dtype=torch.float64)
        assert float((got - expected).abs().max()) < tolerance * scale
        assert all(pair["converged"] and pair["residual"] < 2e-3 * scale for pair in found[end])
    assert found["trace"]["value"] == pytest.approx(float(matrix.trace()), rel=tolerance)
    assert found["loss"] == pytest.approx(loss, rel=tolerance)
    assert found["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=tolerance)
    assert (found["parameters"], found["samples"], found["dtype"], found["mode"]) == (26, 30, dtype, "eval")


def test_the_device_is_where_it_is_measured_and_must_be_here(ask: Any, here: Path) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    assert answer(ask("a.pt", "--device", "cpu", "--json"))["loss"] == answer(ask("a.pt", "--json"))["loss"]
    assert "device 'cuda:99' cannot be used here" in ask("a.pt", "--device", "cuda:99").refusal()
    assert "expected a device such as cpu, cuda or cuda:1" in ask("a.pt", "--device", "gpu").refusal()
    refused = ask("a.pt", "--device", "meta", objective="users_net:objective").refusal()
    assert "on the device 'meta'" in refused


def test_all_eigenvalues_of_a_small_model(ask: Any, here: Path) -> None:
    model = network()
    torch.save(model.state_dict(), here / "a.pt")
    found = answer(ask("a.pt", "--k", 20, "--dtype", "float64", "--json", "--no-trace"))
    values = [pair["value"] for pair in found["largest"] + found["smallest"]]
    expected = torch.linalg.eigvalsh(dense(model)[0]).flip(0)
    torch.testing.assert_close(torch.tensor(values, dtype=torch.float64), expected, rtol=0, atol=1e-8)
    assert found["trace"] is None


@pytest.mark.parametrize(("factor", "verdict"), [(0.9, "stable"), (1.1, "unstable")])
def test_verdicts_on_gradient_descent(ask: Any, here: Path, factor: float, verdict: str) -> None:
    momentum, gain = (0.0, 2.0) if verdict == "stable" else (0.9, 3.8)
    model = network()
    torch.save(model.state_dict(), here / "a.pt")
    lr = factor * gain / float(torch.linalg.eigvalsh(dense(model)[0])[-1])
    found = answer(ask("a.pt", "--no-trace", "--json", "--optimizer", f"sgd:momentum={momentum}", "--lr", lr))
    stability = found["stability"]
    assert stability["verdict"] == verdict
    assert stability["threshold"]["value"] == pytest.approx(gain / lr)
    assert stability["ratio"] == pytest.approx(factor, rel=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_verdict_on_adam_uses_the_state_in_the_checkpoint(ask: Any, here: Path, decay: float) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=0.5)  # not what is asked about
    generator = torch.Generator().manual_seed(5)
    inputs, targets = torch.randn(30, 3, generator=generator), torch.randint(0, 2, (30,), generator=generator)
    for _ in range(7):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}, here / "a.pt")
    square = torch.cat([optimizer.state[p]["exp_avg_sq"].double().flatten() for p in model.parameters()])
    preconditioner = (1 - 0.9**7) * ((square / (1 - 0.999**7)).sqrt() + 1e-8)
    scale = preconditioner.rsqrt()
    matrix = dense(model)[0] + decay * torch.eye(26, dtype=torch.float64)
    expected = float(torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1])

    spec = f"adam:weight_decay={decay}"
    stability = answer(ask("a.pt", "--no-trace", "--dtype", "float64", "--json", "--optimizer", spec))["stability"]
    assert stability["lr"] == 0.02
    assert stability["sharpness"] == pytest.approx(expected, rel=1e-5)
    assert stability["threshold"]["value"] == pytest.approx(38 / 0.02)
    assert stability["ratio"] == pytest.approx(expected * 0.02 / 38, rel=1e-5)
    louder = answer(ask("a.pt", "--no-trace", "--json", "--optimizer", spec, "--lr", 2.0 * 38 / expected))["stability"]
    assert (louder["verdict"], louder["ratio"]) == ("unstable", pytest.approx(2, rel=1e-3))


def test_what_is_not_known_is_said(ask: Any, here: Path) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    for spec, words in (("adam", "no optimizer state"), ("gradient-flow", "no update rule is known")):
        stability = answer(ask("a.pt", "--no-trace", "--json", "--optimizer", spec, "--lr", 0.1))["stability"]
        assert stability["verdict"] == "not known"
        assert words in stability["why"]
        assert stability["sharpness"] is None


def test_the_answer_for_people(ask: Any, here: Path) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    said = ask("a.pt", "--optimizer", "sgd", "--lr", 0.01, objective="users_net:objective")
    assert said.code == 0
    assert "26 parameters, 30 samples, measured in float32, mode eval" in said.out
    assert said.out.count(" yes") == 6
    assert "exact up to rounding, 26 products" in said.out
    assert "sgd at learning rate 0.01: stable" in said.out
    assert "threshold 2/η" in said.out
    assert said.err.startswith("estimated cost: ")
    assert "products of" in said.err
    assert "KiB for the search vectors" in said.err


@pytest.mark.parametrize("form", ["safetensors", "model", "state_dict", "model_state_dict", "wrapped", "trainer"])
def test_the_forms_of_a_checkpoint(here: Path, form: str) -> None:
    state = network(3).state_dict()
    saved = torch.optim.SGD(network().parameters(), lr=0.3).state_dict()
    path, optimizer = here / "a.file", None
    if form == "safetensors":
        save_file(state, path)
    elif form == "wrapped":
        torch.save({f"module._orig_mod.{name}": tensor for name, tensor in state.items()}, path)
    elif form == "trainer":
        torch.save({"state_dict": {f"model.{n}": t for n, t in state.items()}, "optimizer_states": [saved]}, path)
        optimizer = saved
    else:
        torch.save({form: state, "step": 3, "optimizer_state_dict": saved}, path)
        optimizer = saved
    weights, model = read_weights(path), network(4)
    put_weights(weights, model)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert weights.optimizer == optimizer


def test_tied_weights_may_be_stored_once() -> None:
    def tied() -> nn.ModuleDict:
        model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
        model["head"].weight = model["embed"].weight
        return model

    source, target = tied(), tied()
    put_weights(Weights(Path("a"), {"embed.weight": source.state_dict()["embed.weight"]}), target)
    assert torch.equal(target["head"].weight, source["head"].weight)


def test_a_run_of_our_own(ask: Any, run: Run, here: Path) -> None:
    (here / "users_run.py").write_text(
        "from edgescope.data import DATA\nfrom edgescope.models import MODELS\n"
        "from edgescope.losses import half_mse, supervised\n"
        "def objective():\n"
        "    data = DATA.build('digits', train=40, test=10).load()\n"
        "    return MODELS.build('mlp:widths=4').build(data.input_shape, data.classes, 1), supervised(half_mse), "
        "(data.inputs, data.targets)\n"
    )
    options = "--data digits --model mlp:widths=4 --optimizer adam --lr 0.01 --train 40 --test 10 --steps 8 --every 8"
    said = run("train", *options.split(), "--threads", 1, "--path", "kept", "--out", "a")
    assert said.code == 0, said
    from edgescope.store import Record

    with Record.open("a") as record:
        ratio = record.series("ratio")[1][-1]
        loss = record.series("loss", "train")[1][-1]
    for checkpoint in ("a", "a/checkpoints/step-0000000008.safetensors"):
        found = answer(ask(checkpoint, "--no-trace", "--json", "--optimizer", "adam", objective="users_run:objective"))
        assert found["loss"] == pytest.approx(loss, rel=1e-5)
        assert found["stability"]["ratio"] == pytest.approx(ratio, rel=2e-3)


def test_pickled_code_is_not_run(ask: Any, here: Path) -> None:
    torch.save({"model": Evil()}, here / "evil.pt")
    (here / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save(network(), here / "whole.pt")
    assert "refused" in ask("evil.pt").refusal()
    assert "refused" in ask("evil.pkl").refusal() or "not a readable checkpoint" in ask("evil.pkl").refusal()
    line = ask("whole.pt").refusal()
    assert "torch.nn.modules.container.Sequential" in line
    assert "state_dict" in line
    assert not (here / "executed").exists()


def test_a_checkpoint_of_another_model(ask: Any, here: Path) -> None:
    other = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Linear(2, 2))
    torch.save(other.state_dict(), here / "other.pt")
    line = ask("other.pt").refusal()
    assert "another model" in line
    assert "it has besides 3.weight, 3.bias" in line
    assert "0.weight (5, 3) where the model has (4, 3)" in line
    torch.save(nn.Linear(3, 4).state_dict(), here / "less.pt")
    assert "it lacks 0.weight, 0.bias, 2.weight and 1 more" in ask("less.pt").refusal()


def test_files_that_are_no_checkpoint(ask: Any, here: Path) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    save_file(network().state_dict(), here / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        whole = (here / name).read_bytes()
        (here / f"cut-{name}").write_bytes(whole[: len(whole) // 2])
    (here / "text.pt").write_text("weights")
    (here / "empty.pt").write_bytes(b"")
    torch.save({"epoch": 3, "notes": "none"}, here / "none.pt")
    torch.save({k: v * float("nan") for k, v in network().state_dict().items()}, here / "nan.pt")
    assert "not a readable checkpoint" in ask("cut-a.pt").refusal()
    assert "not a complete safetensors file" in ask("cut-a.safetensors").refusal()
    assert "not a readable checkpoint" in ask("text.pt").refusal()
    assert "not a readable checkpoint" in ask("empty.pt").refusal()
    assert "contains no weights (its keys: epoch, notes)" in ask("none.pt").refusal()
    assert "NaN or infinite: 0.weight" in ask("nan.pt").refusal()
    assert "cannot read the checkpoint missing.pt" in ask("missing.pt").refusal()
    assert "contains no checkpoint" in ask(".").refusal()


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("users_net", "expected module:function"),
        ("users_net:partz", "no function 'partz'"),
        ("users_net:not_a_function", "a int, not a function"),
        ("users_nett:parts", "no module 'users_nett'"),
        ("users_net:fails", "raised KeyError"),
        ("users_net:number", "returned a int"),
        ("users_net:other_shapes", "inputs"),
    ],
)
def test_objectives_that_cannot_be_used(ask: Any, here: Path, objective: str, words: str) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    assert words in ask("a.pt", objective=objective).refusal()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--k", 0], "inspect with --k=0"),
        (["--optimizer", "sdg", "--lr", 0.1], "try 'sgd'"),
        (["--optimizer", "sgd:momentun=0.9", "--lr", 0.1], "try 'momentum='"),
        (["--optimizer", "sgd"], "without a learning rate"),
        (["--optimizer", "sgd", "--lr", 0], "lr=0;"),
        (["--optimizer", "sgd", "--lr", "inf"], "lr=inf"),
        (["--optimizer", "sgd", "--lr", "nan"], "lr=nan"),
    ],
)
def test_options_that_cannot_be_used(ask: Any, here: Path, options: list[Any], words: str) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    assert words in ask("a.pt", *options).refusal()


def test_the_state_of_another_optimizer_is_refused(ask: Any, here: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, here / "a.pt")
    line = ask("a.pt", "--optimizer", "adam").refusal()
    assert "the optimizer state in the checkpoint does not fit" in line
    assert "expected one of Adam" in line


def test_a_precision_that_the_objective_does_not_have(ask: Any, here: Path) -> None:
    torch.save(network().state_dict(), here / "a.pt")
    line = ask("a.pt", "--dtype", "float64", objective="users_net:objective").refusal()
    assert "torch.float32" in line
    assert "(model, loss_fn, data)" in line
