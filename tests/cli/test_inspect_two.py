"""``edgescope inspect --compare`` and ``--perturb``: against inspections of each checkpoint, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from said import Run, Said
from torch import nn

MODULE = """
import torch
from torch import nn


def parts():
    generator = torch.Generator().manual_seed(5)
    data = torch.randn(30, 3, generator=generator), torch.randint(0, 2, (30,), generator=generator)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]), data
"""


def network(seed: int, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))


@pytest.fixture
def ask(run: Run, here: Path) -> Any:
    (here / "two_nets.py").write_text(MODULE)
    for seed in range(2):
        torch.save(network(seed).state_dict(), here / f"{seed}.pt")

    def invoke(*arguments: object) -> Said:
        return run("inspect", *arguments, "--objective", "two_nets:parts", "--k", 2, "--dtype", "float64")

    return invoke


def answer(said: Said) -> dict[str, Any]:
    assert said.code == 0, said
    return json.loads(said.out)


def test_both_are_as_each_alone(ask: Any) -> None:
    both = answer(ask("--compare", "0.pt", "1.pt", "--json", "--perturb", "--optimizer", "sgd", "--lr", 0.1))
    for name, path in (("a", "0.pt"), ("b", "1.pt")):
        alone = answer(ask(path, "--json", "--perturb", "--optimizer", "sgd", "--lr", 0.1))
        found = both[name]
        assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in alone.items() if k != "seconds"}
    flat = [torch.cat([p.detach().double().flatten() for p in network(seed).parameters()]) for seed in range(2)]
    assert both["distance"] == pytest.approx(float((flat[1] - flat[0]).norm()))
    assert both["relative_distance"] == pytest.approx(float((flat[1] - flat[0]).norm() / flat[0].norm()))


def test_losses_are_those_of_the_written_out_perturbation(ask: Any) -> None:
    found = answer(ask("0.pt", "--json", "--perturb", "--no-trace"))
    model = network(0).double()
    generator = torch.Generator().manual_seed(5)
    inputs, targets = torch.randn(30, 3, generator=generator).double(), torch.randint(0, 2, (30,), generator=generator)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            scale = layer.weight.abs().amax(1, keepdim=True) / 7
            layer.weight.copy_((layer.weight / scale).round() * scale)
        loss = float(nn.functional.cross_entropy(model(inputs), targets))
    rounding, *noise = found["perturbed"]
    assert (rounding["kind"], rounding["amount"], rounding["draws"]) == ("rounding", 4, 1)
    assert rounding["loss"] == pytest.approx(loss)
    assert rounding["increase"] == pytest.approx(loss - found["loss"])
    assert [(one["kind"], one["amount"]) for one in noise] == [("noise", 0.01), ("noise", 0.05)]
    # Noise five times as large adds some 25 times as much.
    assert noise[1]["increase"] == pytest.approx(25 * noise[0]["increase"], rel=0.1)


def test_the_tables_for_people(ask: Any) -> None:
    out = ask("--compare", "0.pt", "1.pt", "--perturb", "--optimizer", "sgd", "--lr", 0.1).out
    for words in (
        "A: 0.pt",
        "B: 1.pt",
        "largest eigenvalue ",
        "rounded to 4 bits",
        "noise of 5%",
        "B: sgd at learning",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 100
    alone = ask("0.pt", "--perturb").out
    assert "loss increases by" in alone


def test_the_wrong_number_of_checkpoints(ask: Any) -> None:
    assert "with 2 checkpoints; expected one checkpoint; try --compare A B" in ask("0.pt", "1.pt").refusal()
    assert "expected two checkpoints of one model" in ask("--compare", "0.pt").refusal()
    assert "with 0 checkpoints" in ask().refusal()


def test_the_second_of_another_model(ask: Any, here: Path) -> None:
    torch.save(network(0, 5).state_dict(), here / "wide.pt")
    assert "wide.pt is a checkpoint of another model" in ask("--compare", "0.pt", "wide.pt").refusal()
