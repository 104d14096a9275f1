"""Cross-entropy of a linear layer by chunks of tokens, against torch's on all logits, in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import edgescope as es
from edgescope.errors import InputError
from edgescope.losses import linear_cross_entropy
from edgescope.objective.modules import own_deprecations_quiet

TOKENS, WIDTH, VOCABULARY = 7, 3, 8
Function = Callable[..., Tensor]


def problem(seed: int, ignored: int = -100) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    torch.manual_seed(seed)
    shapes = (TOKENS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,)
    targets = torch.randint(VOCABULARY, (TOKENS,))
    targets[torch.randperm(TOKENS)[:3]] = ignored
    hidden, weight, bias = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return (hidden, weight, bias), targets


def both(targets: Tensor, chunk: int | None, bias: bool, **options: Any) -> tuple[Function, Function]:
    """Ours and torch's, as functions of hidden states, weight and bias."""

    def ours(hidden: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, targets, shift if bias else None, chunk=chunk, **options)

    def torch_s(hidden: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(hidden, weight, shift if bias else None), targets, **options)

    return ours, torch_s


def weighted(function: Function) -> Function:
    """A scalar that depends on the loss of each token in another way."""
    return lambda *arguments: function(*arguments).flatten().sin().sum()


def derivatives(function: Function, arguments: tuple[Tensor, ...]) -> list[Tensor]:
    value = function(*arguments)
    gradient = torch.autograd.functional.jacobian(function, arguments)
    hessian = torch.autograd.functional.hessian(function, arguments)
    return [value, *gradient, *(part for row in hessian for part in row)]


@functools.cache
def derivatives_by_torch(reduction: str, bias: bool, seed: int) -> list[Tensor]:
    arguments, targets = problem(seed)
    return derivatives(weighted(both(targets, None, bias, reduction=reduction)[1]), arguments)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [None, 1, 4, 7, 100])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_value_gradient_and_hessian(reduction: str, chunk: int | None, bias: bool, seed: int) -> None:
    arguments, targets = problem(seed)
    ours = derivatives(weighted(both(targets, chunk, bias, reduction=reduction)[0]), arguments)
    for found, reference in zip(ours, derivatives_by_torch(reduction, bias, seed), strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("ignored", [-100, 0, 7])
def test_ignored_targets(ignored: int) -> None:
    arguments, targets = problem(4, ignored)
    ours, wanted = (derivatives(f, arguments) for f in both(targets, 4, True, ignore_index=ignored))
    for found, reference in zip(ours, wanted, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-11, atol=1e-13)


def test_tokens_of_sequences_and_losses_of_their_shape() -> None:
    (hidden, weight, bias), targets = problem(0)
    found = linear_cross_entropy(
        hidden[:6].view(2, 3, WIDTH), weight, targets[:6].view(2, 3), bias, reduction="none", chunk=5
    )
    wanted = F.cross_entropy(hidden[:6] @ weight.T + bias, targets[:6], reduction="none")
    torch.testing.assert_close(found, wanted.view(2, 3))


def test_all_targets_ignored_is_a_mean_over_nothing() -> None:
    (hidden, weight, _), targets = problem(0)
    assert linear_cross_entropy(hidden, weight, torch.full_like(targets, -100)).isnan()
    assert linear_cross_entropy(hidden, weight, torch.full_like(targets, -100), reduction="sum") == 0


def test_forward_over_reverse_and_vectorised() -> None:
    arguments, targets = problem(1)
    vectors = tuple(torch.randn(3, *a.shape, dtype=a.dtype) for a in arguments)

    def products(function: Function) -> Any:
        gradient = torch.func.grad(function, argnums=(0, 1, 2))
        return torch.func.vmap(lambda *v: torch.func.jvp(gradient, arguments, v)[1])(*vectors)

    def one_by_one(function: Function) -> Any:
        leaves = [a.clone().requires_grad_() for a in arguments]
        gradient = torch.autograd.grad(function(*leaves), leaves, create_graph=True)
        return torch.autograd.grad(gradient, leaves, vectors, is_grads_batched=True)

    ours, torch_s = both(targets, 4, True)
    with own_deprecations_quiet():  # of torch's forward mode, while it loads
        wanted, forward = products(torch_s), products(ours)
    for found in (forward, one_by_one(ours)):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        torch.func.jvp(ours, arguments, arguments), torch.func.jvp(torch_s, arguments, arguments)
    )


def test_third_derivatives() -> None:
    arguments, targets = problem(1)
    found = []
    for function in both(targets, 4, True):
        leaves = [a.clone().requires_grad_() for a in arguments]
        gradient = torch.autograd.grad(function(*leaves), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in gradient), leaves, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in second), leaves))
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden": torch.zeros(3, 4)}, "hidden of shape \\(3, 4\\)"),
        ({"targets": torch.zeros(2, dtype=torch.long)}, "targets of shape \\(2,\\)"),
        ({"targets": torch.zeros(3)}, "targets of type torch.float32"),
        ({"targets": torch.tensor([1, 2, 6])}, "a target of 6 for a vocabulary of 6; expected targets from 0 to 5"),
        ({"targets": torch.tensor([1, -1, 5])}, "a target of -1"),
        ({"bias": torch.zeros(5)}, "bias of shape \\(5,\\)"),
        ({"reduction": "total"}, "reduction"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], words: str) -> None:
    given = {"hidden": torch.zeros(3, 5), "weight": torch.zeros(6, 5), "targets": torch.tensor([0, 1, 5])}
    with pytest.raises(InputError, match=words):
        linear_cross_entropy(**(given | changed))


# ---------------------------------------------------------------------------------------------- inside an objective


class TiedModel(nn.Module):
    """A language model whose last layer shares its weight with the embedding."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.body(self.embedding(tokens))


def tied_case(tokens: int = 17, ignored: int = -100) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(tokens, (6, 5)), "labels": torch.randint(tokens, (6, 5))}
    for number in range(6):
        batch["labels"][number, : number % 4] = ignored
    return TiedModel(tokens, 4), batch


@pytest.mark.parametrize("ignored", [-100, 16])
def test_a_users_loss_with_padding_is_weighted_and_cut_as_with_all_logits(ignored: int) -> None:
    model, batch = tied_case(ignored=ignored)
    pieces = [{k: v[:4] for k, v in batch.items()}, {k: v[4:] for k, v in batch.items()}]

    def chunked(model: Any, batch: Any) -> Tensor:
        hidden, weight = model(batch["input_ids"]), model.embedding.weight
        return linear_cross_entropy(hidden, weight, batch["labels"], ignore_index=ignored, chunk=3)

    def dense(model: Any, batch: Any) -> Tensor:
        logits = model(batch["input_ids"]) @ model.embedding.weight.T
        return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=ignored)

    ours, wanted = (es.Objective(model, loss, pieces, dtype=torch.float64) for loss in (chunked, dense))
    V = torch.randn(ours.size, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.loss(), wanted.loss())
    torch.testing.assert_close(ours.gradient(), wanted.gradient())
    torch.testing.assert_close(ours.hvp(V), wanted.hvp(V))


def gpt(tokens: int, width: int = 8, length: int = 6) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model = es.MODELS.build(f"gpt:width={width},heads=2,depth=1").build((length,), tokens, seed=0)
    torch.manual_seed(0)
    return model, (torch.randint(tokens, (5, length)), torch.randint(tokens, (5, length)))


@pytest.mark.parametrize("path", ["kept", "rebuilt", "forward", "kept-batched"])
def test_the_named_loss_has_the_curvature_of_the_dense_one(path: Any) -> None:
    model, data = gpt(17)
    chunked = es.supervised(es.LOSSES.build("linear-cross-entropy:chunk=4"))
    dense = es.supervised(es.LOSSES.build("cross-entropy"))
    ours, wanted = (es.Objective(model, loss, data, dtype=torch.float64, path=path) for loss in (chunked, dense))
    V = torch.randn(ours.size, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.loss(), wanted.loss())
    torch.testing.assert_close(ours.gradient(), wanted.gradient())
    torch.testing.assert_close(ours.hvp(V), wanted.hvp(V))
    torch.testing.assert_close(ours.gnvp(V), wanted.gnvp(V))
    assert ours.accuracy() == wanted.accuracy()
    assert "forward" not in vars(model.head)


@pytest.mark.parametrize("seed", range(3))
def test_gauss_newton_products_through_a_layer_with_a_bias(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 9))
    data = (torch.randn(10, 4), torch.randint(9, (10,)))
    chunked = es.supervised(es.losses.LinearCrossEntropy(head="2", chunk=3))
    ours, wanted = (
        es.Objective(model, loss, data, dtype=torch.float64)
        for loss in (chunked, es.supervised(es.losses.cross_entropy))
    )
    V = torch.randn(ours.size, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.gnvp(V), wanted.gnvp(V))
    torch.testing.assert_close(ours.hvp(V), wanted.hvp(V))


def test_a_model_that_does_not_end_in_the_layer_is_refused() -> None:
    data = (torch.randn(10, 4), torch.randint(9, (10,)))
    loss = es.supervised(es.LOSSES.build("linear-cross-entropy:head=0"))
    with pytest.raises(InputError, match="does not end with its layer '0'"):
        es.Objective(nn.Sequential(nn.Linear(4, 9), nn.Tanh()), loss, data)
    with pytest.raises(InputError, match="a Tanh at '0'; expected the linear layer"):
        es.Objective(nn.Sequential(nn.Tanh(), nn.Linear(4, 9)), loss, data)
    with pytest.raises(InputError, match="nothing at '0'"):
        es.Objective(nn.Linear(4, 9), loss, data)


class Largest(TorchDispatchMode):
    """The largest number of entries of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.entries = max(self.entries, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result


@pytest.mark.parametrize("kind", ["gradient", "hvp", "gnvp"])
def test_logits_of_all_tokens_are_never_held(kind: str) -> None:
    tokens, length, width = 3000, 40, 4
    model, data = gpt(tokens, width, length)
    largest = {}
    for spec in ("linear-cross-entropy:chunk=10", "cross-entropy"):
        objective = es.Objective(model, es.supervised(es.LOSSES.build(spec)), data, path="rebuilt", check=False)
        vector = torch.ones(objective.size)
        with Largest() as seen:
            objective.gradient() if kind == "gradient" else getattr(objective, kind)(vector)
        largest[spec] = seen.entries
    # Beside the logits of ten tokens there is the flat vector, and what Gauss-Newton products double the last layer to.
    beside = 2 * objective.size + 2 * 5 * length * width
    assert largest["linear-cross-entropy:chunk=10"] <= max(10 * tokens, beside)
    assert largest["cross-entropy"] >= 5 * length * tokens
