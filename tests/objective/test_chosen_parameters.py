"""An objective of some parameters is the block of the full one, the rest being constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import Live, at_once, refused
from objective_problems import Net, labelled, relative
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.losses import supervised
from edgescope.objective import Objective, in_mode, in_precision, mini_batches

LOSS = supervised(F.cross_entropy)


class Block(nn.Module):
    """A block as transformers have them, with a norm that batch statistics do not enter."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.ModuleDict({"q": nn.Linear(4, 4), "out": nn.Linear(4, 4)})
        self.mlp, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.mlp((x + self.attn["out"](self.attn["q"](x).softmax(-1))).tanh()))


def blocks() -> nn.Module:
    torch.manual_seed(0)
    net = Net(lambda m, x: m.head(m.blocks(x)), blocks=nn.Sequential(Block(), Block()), head=nn.Linear(4, 3))
    return net.double()


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x, y = labelled(9, 4)
    return x.double(), y


def sgd(*groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": group} for group in groups], lr=0.1)


WEIGHTS = [f"blocks.{i}.{name}.weight" for i in (0, 1) for name in ("attn.q", "attn.out", "mlp", "norm")] + [
    "head.weight"
]
ATTENTION = [f"blocks.{i}.attn.{part}.{kind}" for i in (0, 1) for part in ("q", "out") for kind in ("weight", "bias")]
HEAD = ["head.weight", "head.bias"]

CHOICES: dict[str, tuple[Callable[[nn.Module], Any], list[str]]] = {
    "glob": (lambda m: "*.weight", WEIGHTS),
    "glob-in-the-middle": (lambda m: "blocks.*.attn.*", ATTENTION),
    "one-character": (lambda m: "blocks.?.attn.[qo]*.bias", [name for name in ATTENTION if name.endswith("bias")]),
    "name": (lambda m: "head.bias", ["head.bias"]),
    "everything": (lambda m: "*", []),
    "none-given": (lambda m: None, []),
    "module": (lambda m: m.head, HEAD),
    "the-model": (lambda m: m, []),
    "optimizer": (lambda m: sgd(m.head.parameters()), HEAD),
    "groups": (lambda m: sgd([m.head.bias], m.blocks[0].attn.parameters()), [*ATTENTION[:4], "head.bias"]),
    "list": (lambda m: ["head.*", m.blocks[1].attn, sgd(m.blocks[0].attn.parameters())], [*ATTENTION, *HEAD]),
    "tuple-with-repeats": (lambda m: (m.head, "head.*", m.head), HEAD),
    "parameters": (lambda m: list(m.head.parameters()), HEAD),
    "generator": (lambda m: m.head.parameters(), HEAD),
    "tensor": (lambda m: m.head.bias, ["head.bias"]),
}


def places(full: Objective, names: list[str]) -> Tensor:
    found = [torch.arange(slot.slice.start, slot.slice.stop) for slot in full.layout if slot.name in names]
    return torch.cat(found)


def is_block(part: Objective, live: Live, inside: Tensor) -> None:
    assert part.size == len(inside)
    assert relative(part.loss(), live.loss) < 1e-12
    assert relative(part.gradient(), live.gradient[inside]) < 1e-9
    assert relative(part.hvp(torch.eye(part.size).double()), live.hessian[inside][:, inside]) < 1e-9


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_the_block_of_the_whole(name: str) -> None:
    model, (choose, wanted) = blocks(), CHOICES[name]
    full = Objective(model, LOSS, data(), path="rebuilt", threads=1)
    live = at_once(model, LOSS, data())
    part = Objective(model, LOSS, data(), params=choose(model), path="rebuilt", threads=1, l2=0.0)
    names = [slot.name for slot in part.layout]
    assert names == (wanted or [slot.name for slot in full.layout])  # in the order of the model
    inside = places(full, names)
    is_block(part, live, inside)
    # Vectors of the part stand for those of the whole.
    here = full.parameters()
    assert torch.equal(part.parameters(), here[inside])
    moved = here.clone()
    moved[inside] += 0.1
    assert relative(part.gradient(moved[inside]), full.gradient(moved)[inside]) < 1e-12
    part.assign(moved[inside])
    assert torch.equal(full.parameters(), moved)
    assert [t.shape for t in part.tensors] == [slot.shape for slot in part.layout]


def test_l2_is_of_the_chosen_parameters_alone() -> None:
    model = blocks()
    part = Objective(model, LOSS, data(), params="head.*", l2=0.3)
    plain = Objective(model, LOSS, data(), params="head.*")
    w = part.parameters()
    assert relative(part.loss() - plain.loss(), 0.15 * w.square().sum()) < 1e-12
    assert relative(part.gradient() - plain.gradient(), 0.3 * w) < 1e-9


def test_other_objectives_of_one_choice() -> None:
    model = blocks()
    part = Objective(model, LOSS, data(), params=["blocks.1.*", model.head])
    names = [slot.name for slot in part.layout]
    for other in (in_precision(part, torch.float32), in_mode(part, "train"), next(mini_batches(part, 4))):
        assert [slot.name for slot in other.layout] == names
        assert relative(other.parameters(), part.parameters()) < 1e-6
    live = at_once(model, LOSS, data())
    single = in_precision(part, torch.float32)
    inside = places(Objective(model, LOSS, data()), names)
    assert relative(single.gradient(), live.gradient[inside]) < 1e-5


def test_constants_are_those_of_the_moment() -> None:
    """What was not chosen is a constant, and follows the model when others train it."""
    model = blocks()
    part = Objective(model, LOSS, data(), params="head.*")
    part.hvp(torch.ones(part.size).double())
    with torch.no_grad():
        model.blocks[0].mlp.weight.mul_(2.0)
    inside = places(Objective(model, LOSS, data()), HEAD)
    is_block(part, at_once(model, LOSS, data()), inside)


def tied() -> nn.Module:
    torch.manual_seed(0)
    net = Net(lambda m, x: m.c(m.b(m.a(x).tanh()).tanh()), a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 3))
    net.b.weight = net.a.weight
    return net.double()


@pytest.mark.parametrize(
    ("choose", "names"),
    [
        (lambda m: "b.weight", ["a.weight"]),
        (lambda m: "b.*", ["a.weight", "b.bias"]),
        (lambda m: m.b, ["a.weight", "b.bias"]),
        (lambda m: sgd([m.b.weight]), ["a.weight"]),
        (lambda m: m.b.weight, ["a.weight"]),
        (lambda m: ["a.weight", "b.weight"], ["a.weight"]),
    ],
)
def test_tied_parameters_are_chosen_by_any_of_their_names(choose: Callable[[nn.Module], Any], names: list[str]) -> None:
    model = tied()
    part = Objective(model, LOSS, data(), params=choose(model))
    assert [slot.name for slot in part.layout] == names
    is_block(part, at_once(model, LOSS, data()), places(Objective(model, LOSS, data()), names))
    assert part.changes() == []


def test_frozen_parameters_are_not_chosen() -> None:
    model = blocks()
    model.blocks[0].requires_grad_(False)
    part = Objective(model, LOSS, data(), params="*.attn.*")
    assert [slot.name for slot in part.layout] == ATTENTION[4:]
    refused(
        InputError, "none of the chosen", "requires_grad", make=lambda: Objective(model, LOSS, data(), params="*.0.*")
    )


def test_wrapped_models_have_the_names_inside() -> None:
    model = blocks()
    compiled = torch.compile(model, backend="eager")
    for params in ("head.*", compiled.head, sgd(compiled.head.parameters())):
        part = Objective(compiled, LOSS, data(), params=params)
        assert [slot.name for slot in part.layout] == HEAD
    parallel = nn.DataParallel(model)
    refused(
        InputError,
        "'module.head.bias'",
        "try 'head.bias'",
        make=lambda: Objective(parallel, LOSS, data(), params="module.head.bias"),
    )


def test_choices_of_nothing_are_refused() -> None:
    model, other = blocks(), nn.Linear(4, 3)

    def made(params: Any) -> Callable[[], object]:
        return lambda: Objective(model, LOSS, data(), params=params)

    refused(InputError, "matches 'head.wieght'", "try 'head.weight'", make=made("head.wieght"))
    refused(InputError, "matches 'attn.*'", "names such as blocks.0.attn.q.weight", "and more", make=made("attn.*"))
    refused(InputError, "matches 'heads.*'", make=made(["head.*", "heads.*"]))  # the other one alone is not enough
    refused(InputError, "the Linear in params has no parameter", make=made(other))
    refused(InputError, "the SGD in params has no parameter", make=made(sgd(other.parameters())))
    refused(InputError, "the Parameter in params is no parameter of the model", make=made(other.weight))
    refused(InputError, "the Tanh in params", make=made(nn.Tanh()))
    refused(InputError, "params is empty", "params=None", make=made([]))
    refused(InputError, "params is empty", make=made(iter(())))
    refused(InputError, "of type int", "modules, optimizers", make=made(3))
    refused(InputError, "of type list", make=made([["head.*"]]))
