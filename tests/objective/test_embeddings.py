"""Embeddings: padding rows are constants whose value counts; options under which there is no such loss are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import refused
from objective_problems import Net, relative
from torch import Tensor, nn

import edgescope as es
from edgescope.errors import InputError, NotDifferentiableError
from edgescope.losses import supervised
from edgescope.objective import Objective, in_mode, in_precision, mini_batches

LOSS = supervised(F.cross_entropy)
WORDS, WIDTH, PAD = 6, 4, 2
Embed = Callable[[nn.Module, Tensor], Tensor]


def functional(**options: Any) -> Embed:
    return lambda m, x: F.embedding(x, m.embed.weight, **options)


def words(embed: Embed | None = None, **options: Any) -> nn.Module:
    """A network on tokens whose padding row is not zero, as it is not once a checkpoint was loaded."""
    torch.manual_seed(0)
    call = embed or (lambda m, x: m.embed(x))
    net = Net(
        lambda m, x: m.head(call(m, x).tanh().mean(1)),
        embed=nn.Embedding(WORDS, WIDTH, **options),
        head=nn.Linear(4, 3),
    )
    nn.init.normal_(net.embed.weight)
    return net


def tokens(n: int = 20) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(WORDS, (n, 5)), torch.randint(3, (n,))


def dense(objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and Hessian in float64, by indexing, which knows nothing of padding."""
    x, y = tokens()

    def loss(w: Tensor) -> Tensor:
        weight, head, bias = objective.layout.split(w)
        return F.cross_entropy(F.linear(weight[x].tanh().mean(1), head, bias), y)

    w = objective.parameters().double()
    (gradient,) = torch.autograd.grad(loss(leaf := w.clone().requires_grad_()), leaf)
    return loss(w), gradient, torch.autograd.functional.hessian(loss, w)


def trains(objective: Objective, row: int | None) -> Tensor:
    """False at the entries of one row of the embedding."""
    found = torch.ones(objective.size, dtype=torch.bool)
    if row is not None:
        found[: WORDS * WIDTH].view(WORDS, WIDTH)[row] = False
    return found


CONSTANT: dict[str, tuple[Callable[[], nn.Module], int | None]] = {
    "plain": (words, None),
    "padding": (lambda: words(padding_idx=PAD), PAD),
    "padding-from-the-end": (lambda: words(padding_idx=-1), WORDS - 1),
    "sparse": (lambda: words(sparse=True), None),
    "sparse-and-padding": (lambda: words(sparse=True, padding_idx=PAD), PAD),
    "functional": (lambda: words(functional(padding_idx=PAD)), PAD),
    "functional-from-the-end": (lambda: words(functional(padding_idx=-1)), WORDS - 1),
}


@pytest.mark.parametrize("path", ["kept", "rebuilt", "kept-batched"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONSTANT)
def test_padding_rows_are_constants(name: str, kind: torch.dtype, path: str) -> None:
    make, row = CONSTANT[name]
    model = make()
    before = model.embed.weight.clone()
    objective = Objective(model, LOSS, tokens(), dtype=kind, path=path, threads=1)
    loss, gradient, hessian = dense(objective)
    mask = trains(objective, row)
    slack = 1e-12 if kind == torch.float64 else 1e-5
    assert relative(objective.loss(), loss) < slack  # the value of the row counts
    assert relative(objective.gradient(), gradient * mask) < slack
    found = objective.hvp(torch.eye(objective.size, dtype=kind))
    assert relative(found, hessian * mask * mask[:, None]) < slack
    assert not found[~mask].any()
    assert not found[:, ~mask].any()
    assert not objective.gnvp(torch.ones(objective.size))[~mask].any()
    assert torch.equal(model.embed.weight, before)
    moved = objective.parameters()
    moved[~mask] += 1.0
    assert (float(objective.loss(moved)) == float(objective.loss())) == (row is None)


def test_the_live_model_has_the_same_gradient() -> None:
    for make, _ in CONSTANT.values():
        model = make().double()
        objective = Objective(model, LOSS, tokens())
        found = torch.autograd.grad(LOSS(model, tokens()), objective.tensors)
        live = torch.cat([(g.to_dense() if g.is_sparse else g).flatten() for g in found])
        assert relative(objective.gradient(), live) < 1e-12


def test_the_top_eigenvector_leaves_the_padding_row_alone() -> None:
    objective = Objective(words(padding_idx=PAD).double(), LOSS, tokens())
    mask = trains(objective, PAD)
    hessian = dense(objective)[2][mask][:, mask]
    pairs = es.top_eigenpairs(objective, k=3, tol=1e-9)
    assert relative(pairs.values, torch.linalg.eigvalsh(hessian).flip(0)[:3]) < 1e-8
    assert float(pairs.vectors[~mask].norm()) < 1e-8


def test_l2_leaves_the_padding_row_alone() -> None:
    """Weight decay of an optimizer would move the row; the loss that is measured is that of the rows that train."""
    model = words(padding_idx=PAD).double()
    plain, decayed = Objective(model, LOSS, tokens()), Objective(model, LOSS, tokens(), l2=0.1)
    mask, w, V = trains(plain, PAD), plain.parameters(), torch.ones(plain.size, 2).double()
    assert relative(decayed.loss() - plain.loss(), 0.05 * (w * mask).square().sum()) < 1e-12
    assert relative(decayed.gradient() - plain.gradient(), 0.1 * w * mask) < 1e-9
    assert relative(decayed.hvp(V) - plain.hvp(V), 0.1 * V * mask[:, None]) < 1e-9


def test_other_objectives_of_one_keep_the_rows() -> None:
    objective = Objective(words(padding_idx=PAD), LOSS, tokens())
    mask = trains(objective, PAD)
    for other in (
        in_precision(objective, torch.float64),
        in_mode(objective, "train"),
        next(mini_batches(objective, 9)),
    ):
        V = torch.ones(other.size, dtype=other.dtype)
        assert not other.hvp(V)[~mask].any()
        assert other.hvp(V)[mask].any()


def test_rows_are_constants_also_where_padding_comes_late_or_never() -> None:
    torch.manual_seed(0)
    late, y = torch.randint(3, WORDS, (600, 5)), torch.randint(3, (600,))
    for changed in (late, torch.cat([late[:590], torch.full((10, 5), PAD)])):
        objective = Objective(words(padding_idx=PAD), LOSS, (changed, y), path="rebuilt", threads=1)
        assert not objective.gradient()[~trains(objective, PAD)].any()
        assert not objective.hvp(torch.ones(objective.size))[~trains(objective, PAD)].any()


def test_a_batch_without_valid_targets_hides_no_padding_row() -> None:
    x, y = tokens()
    ignored = torch.where(torch.arange(20) < 12, -100, y)
    model = words(padding_idx=PAD).double()
    objective = Objective(
        model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), [(x[:12], ignored[:12]), (x[12:], y[12:])]
    )
    whole = Objective(model, LOSS, (x[12:], y[12:]))
    V = torch.ones(objective.size).double()
    assert relative(objective.hvp(V), whole.hvp(V)) < 1e-12
    assert not objective.hvp(V)[~trains(objective, PAD)].any()


def tied(padding: bool) -> nn.Module:
    """Tokens in, tokens out, with one weight; its padding row is trained as an output."""
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.head(m.embed(x).tanh().mean(1)),
        embed=nn.Embedding(WORDS, WIDTH, padding_idx=PAD if padding else None),
        head=nn.Linear(WIDTH, WORDS),
    )
    nn.init.normal_(net.embed.weight)
    net.head.weight = net.embed.weight
    return net.double()


def test_tied_rows_are_no_constants() -> None:
    x, y = tokens()
    without = torch.where(x == PAD, 1, x)  # no padding among the inputs, but among the outputs
    found, wanted = (Objective(tied(padding), LOSS, (without, y)) for padding in (True, False))
    V = torch.randn(found.size, 3, dtype=torch.float64)
    assert relative(found.gradient(), wanted.gradient()) < 1e-12
    assert relative(found.hvp(V), wanted.hvp(V)) < 1e-12
    assert found.gradient()[~trains(found, PAD)].all()
    # Padding among the inputs leaves a gradient that is not that of the loss: no Hessian belongs to it.
    mixed = Objective(tied(True), LOSS, (x, y))
    live = torch.autograd.grad(LOSS(mixed.model, (x, y)), mixed.tensors)
    assert relative(mixed.gradient(), torch.cat([g.flatten() for g in live])) < 1e-12
    refused(
        NotDifferentiableError,
        "finite differences of its gradient",
        make=lambda: mixed.hvp(torch.ones(mixed.size).double()),
    )


@pytest.mark.parametrize("other", [None, 1], ids=["without-padding", "another-row"])
def test_rows_that_another_embedding_trains_are_no_constants(other: int | None) -> None:
    """Encoder and decoder with one weight, of which the second meets the padding token nowhere in the data at hand."""
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.head((m.embed(x) * m.second(x.clamp_min(PAD + 1))).tanh().mean(1)),
        embed=nn.Embedding(WORDS, WIDTH, padding_idx=PAD),
        second=nn.Embedding(WORDS, WIDTH, padding_idx=other),
        head=nn.Linear(WIDTH, 3),
    ).double()
    net.second.weight = net.embed.weight
    nn.init.normal_(net.embed.weight)
    x, y = tokens()
    objective = Objective(net, LOSS, (torch.where(x == PAD, 0, x), y), l2=1.0)
    w = objective.parameters()
    row = ~trains(objective, PAD)
    assert relative(objective.gradient()[row], w[row]) < 1e-12  # the l2 term, which moves the row


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "max_norm": (lambda: words(max_norm=1.0), "max_norm"),
    "max_norm-functional": (lambda: words(functional(max_norm=1.0)), "max_norm"),
    "frequency": (lambda: words(scale_grad_by_freq=True), "scale_grad_by_freq"),
    "frequency-functional": (lambda: words(functional(scale_grad_by_freq=True)), "scale_grad_by_freq"),
    "sparse-functional": (lambda: words(functional(sparse=True)), "sparse"),
    "bag-max_norm": (
        lambda: words(lambda m, x: F.embedding_bag(x, m.embed.weight, max_norm=1.0)[:, None]),
        "max_norm",
    ),
    "bag-frequency": (
        lambda: words(lambda m, x: F.embedding_bag(x, m.embed.weight, scale_grad_by_freq=True)[:, None]),
        "scale_grad_by_freq",
    ),
    "bag-sparse": (lambda: words(lambda m, x: F.embedding_bag(x, m.embed.weight, sparse=True)[:, None]), "sparse"),
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_the_weights_is_refused_by_name(name: str, check: bool) -> None:
    make, option = REFUSED[name]
    model = make()
    with torch.no_grad():
        model.embed.weight.mul_(3.0)
    before = model.embed.weight.clone()
    refused(InputError, "embedding", option, make=lambda: Objective(model, LOSS, tokens(), check=check))
    assert torch.equal(model.embed.weight, before)


def test_bags_leave_their_padding_out() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(WORDS, WIDTH, padding_idx=PAD, sparse=True), nn.Linear(WIDTH, 3)).double()
    objective = Objective(model, LOSS, tokens())
    found = torch.autograd.grad(LOSS(model, tokens()), objective.tensors)
    live = torch.cat([(g.to_dense() if g.is_sparse else g).flatten() for g in found])
    assert relative(objective.gradient(), live) < 1e-12
    assert not objective.gradient()[~trains(objective, PAD)].any()
