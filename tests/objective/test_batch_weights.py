"""Batches are averaged so that the objective is the loss of all data at once; where that cannot be, it is said."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from live_reference import agrees, at_once, notices, refused
from objective_problems import Net, mlp, relative
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgescope.errors import EdgescopeWarning, InputError
from edgescope.objective import Objective, in_precision, mini_batches

CLASSES = torch.tensor([1.0, 5.0, 20.0])
LossFunction = Callable[[nn.Module, Any], Tensor]


def part(whole: Any, start: int, stop: int) -> Any:
    return pytree.tree_map(lambda leaf: leaf[start:stop], whole)


def cut(whole: Any, *sizes: int) -> list[Any]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [part(whole, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def rows(n: int = 40, ignored: range = range(0), label: int = -100) -> tuple[Tensor, Tensor]:
    y = torch.randint(3, (n,))
    y[list(ignored)] = label
    return torch.randn(n, 4, dtype=torch.float64), y


def ordered(*numbers: int) -> tuple[Tensor, Tensor]:
    """So many samples of each class, one class after the other, as a folder of folders is read."""
    y = torch.repeat_interleave(torch.arange(3), torch.tensor(numbers))
    return torch.randn(len(y), 4, dtype=torch.float64), y


def sentences(lengths: list[int], long: int = 7) -> dict[str, Tensor]:
    ids = torch.randint(1, 9, (len(lengths), long))
    mask = torch.arange(long) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids * mask, "attention_mask": mask.long(), "labels": torch.where(mask, ids, -100)}


def language_model() -> nn.Module:
    def forward(m: nn.Module, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None) -> Any:
        logits = m.head(m.embed(input_ids).cumsum(1).tanh())
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(loss=loss, logits=logits)

    return Net(forward, embed=nn.Embedding(9, 4), head=nn.Linear(4, 9)).double()


def masked(mask: Callable[[Any, Tensor], Tensor]) -> LossFunction:
    """The losses of tokens, in the mean that a mask picks out."""

    def loss(m: nn.Module, b: Any) -> Tensor:
        logits = m(**b).logits[:, :-1].transpose(1, 2)
        losses = F.cross_entropy(logits, b["input_ids"][:, 1:], reduction="none")
        weights = mask(b, losses)
        return (losses * weights).sum() / weights.sum()

    return loss


def weighted(m: nn.Module, b: Any) -> Tensor:
    losses = F.cross_entropy(m(b[0]), b[1], reduction="none")
    return (b[2] * losses).sum() / b[2].sum()


def with_penalty(loss_fn: LossFunction) -> LossFunction:
    return lambda m, b: loss_fn(m, b) + 0.3 * sum(p.square().sum() for p in m.parameters())


def ce(**options: Any) -> LossFunction:
    return lambda m, b: F.cross_entropy(m(b[0]), b[1], **options)


def wce(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0]), b[1], weight=CLASSES.to(b[0].dtype))


def smoothed(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0]), b[1], weight=CLASSES.to(b[0].dtype), label_smoothing=0.2)


def nll(m: nn.Module, b: Any) -> Tensor:
    return F.nll_loss(m(b[0]).log_softmax(1), b[1], weight=CLASSES.to(b[0].dtype))


def images() -> tuple[Tensor, Tensor]:
    labels = torch.randint(3, (12, 3, 3))
    labels[8:, 1:] = 255
    return torch.randn(12, 2, 3, 3, dtype=torch.float64), labels


def soft() -> tuple[Tensor, Tensor, Tensor]:
    weights = torch.ones(40, dtype=torch.float64)
    weights[33] = 25.0  # a single sample that counts for many
    return *rows(), weights


Case = tuple[Callable[[], nn.Module], LossFunction, Callable[[], Any], tuple[int, ...], str]
HF: LossFunction = lambda m, b: m(**b).loss  # noqa: E731
LENGTHS = [7] * 12 + [3, 4, 2, 5, 7, 3, 2, 6]


def classifier() -> nn.Module:
    return mlp().double()


MEANS: dict[str, Case] = {
    "mean": (classifier, ce(), rows, (25, 15), ""),
    "one-by-one": (classifier, ce(), lambda: rows(9), (1,) * 9, ""),
    "two-samples": (classifier, ce(), lambda: rows(2), (1, 1), ""),
    "squared": (classifier, lambda m, b: F.mse_loss(m(b[0]), b[0][:, :3]), rows, (25, 15), ""),
    "with-penalty": (classifier, with_penalty(ce()), rows, (25, 15), ""),
    "squeezed": (
        lambda: nn.Linear(4, 1).double(),
        lambda m, b: F.mse_loss(m(b[0]).squeeze(), b[0][:, 0].squeeze()),
        rows,
        (25, 15),
        "",
    ),
    "class-weights": (classifier, wce, rows, (25, 15), "sum of class weights (batch[1])"),
    "class-weights-in-order": (classifier, wce, lambda: ordered(25, 5, 10), (25, 15), "sum of class weights"),
    "a-rare-class": (classifier, wce, lambda: ordered(100, 99, 1), (150, 50), "sum of class weights"),
    "class-weights-smoothed": (classifier, smoothed, rows, (25, 15), "sum of class weights"),
    "class-weights-nll": (classifier, nll, rows, (25, 15), "sum of class weights"),
    "class-weights-penalty": (classifier, with_penalty(wce), rows, (25, 15), "sum of class weights"),
    "ignored-first": (classifier, ce(), lambda: rows(40, range(20)), (25, 15), "targets other than -100"),
    "ignored-last": (classifier, ce(), lambda: rows(40, range(28, 39)), (25, 15), "targets other than -100"),
    "ignored-custom": (classifier, ce(ignore_index=2), rows, (25, 15), "targets other than 2"),
    "most-ignored": (classifier, ce(), lambda: rows(200, range(3, 196)), (120, 80), "targets other than -100"),
    "none-valid-in-one": (classifier, ce(), lambda: rows(200, range(130)), (130, 70), "targets other than -100"),
    "pixels": (
        lambda: nn.Conv2d(2, 3, 1).double(),
        ce(ignore_index=255),
        images,
        (8, 4),
        "targets other than 255 (batch[1])",
    ),
    "tokens": (language_model, HF, lambda: sentences(LENGTHS), (12, 8), "without the first of each sample"),
    "mask": (
        language_model,
        masked(lambda b, losses: b["attention_mask"][:, 1:].to(losses.dtype)),
        lambda: sentences(LENGTHS),
        (12, 8),
        "batch['attention_mask']",
    ),
    "mask-from-padding": (
        language_model,
        masked(lambda b, losses: (b["input_ids"][:, 1:] != 0).to(losses.dtype)),
        lambda: {key: value for key, value in sentences(LENGTHS).items() if key != "attention_mask"},
        (12, 8),
        "without the first of each sample",
    ),
    "weights-in-the-batch": (
        classifier,
        weighted,
        lambda: (*rows(), torch.rand(40).double()),
        (25, 15),
        "sum of batch[2]",
    ),
    "one-heavy-sample": (classifier, weighted, soft, (25, 15), "sum of batch[2]"),
    "boolean-mask": (
        classifier,
        lambda m, b: F.cross_entropy(m(b[0])[b[2]], b[1][b[2]]),
        lambda: (*rows(), torch.rand(40) < 0.4),
        (25, 15),
        "sum of batch[2]",
    ),
}


@pytest.mark.parametrize("name", MEANS)
def test_batches_make_the_loss_of_all_data_at_once(name: str) -> None:
    torch.manual_seed(0)
    make, loss_fn, data, sizes, words = MEANS[name]
    model, whole = make(), data()
    live = at_once(model, loss_fn, whole)
    objective = Objective(model, loss_fn, cut(whole, *sizes), path="rebuilt", threads=1)
    agrees(objective, live)
    assert notices(objective) == []
    assert all(words in told for told in notices(objective, warned=False))
    assert bool(notices(objective, warned=False)) == bool(words)
    assert objective.samples == sum(sizes)
    single = Objective(model, loss_fn, whole, chunk=7, path="rebuilt", threads=1)  # one batch, cut
    agrees(single, live)
    V = torch.randn(objective.size, 2, dtype=torch.float64)
    float32 = in_precision(objective, torch.float32)
    assert relative(float32.hvp(V), live.hessian @ V) < 1e-4


@pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0, 1000.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss_fn", [ce(), wce, ce(ignore_index=1)], ids=["mean", "weights", "ignored"])
def test_last_layers_of_zeros_and_saturated_networks(loss_fn: LossFunction, kind: torch.dtype, scale: float) -> None:
    torch.manual_seed(1)
    model, (x, y) = mlp().to(kind), rows()
    with torch.no_grad():
        model[2].weight.mul_(scale), model[2].bias.mul_(scale)
    whole = (x.to(kind), y)
    objective = Objective(model, loss_fn, cut(whole, 25, 15))
    live = at_once(model.double(), loss_fn, (x.to(kind).double(), y))
    slack = 1e-9 if kind == torch.float64 else 2e-5
    assert relative(objective.loss(), live.loss) < slack
    assert relative(objective.gradient(), live.gradient) < slack
    assert notices(objective) == []


def hidden(m: nn.Module, b: Any) -> Tensor:
    """Importance weights that only the loss function knows."""
    weights, losses = b[0][:, 0].exp(), F.cross_entropy(m(b[0]), b[1], reduction="none")
    return (weights * losses).sum() / weights.sum()


def hidden_classes(m: nn.Module, b: Any) -> Tensor:
    weights, losses = CLASSES.double()[b[1]], F.cross_entropy(m(b[0]), b[1], reduction="none")
    return (weights * losses).sum() / weights.sum()


def test_sums_and_unknown_weights_are_refused() -> None:
    torch.manual_seed(0)
    whole = rows()
    for loss_fn in (
        ce(reduction="sum"),
        with_penalty(ce(reduction="sum")),
        lambda m, b: F.mse_loss(m(b[0]), b[0][:, :3], reduction="sum") / 40,
        lambda m, b: -F.logsigmoid(m(b[0])).sum(),
    ):
        refused(
            InputError,
            "sum over its samples",
            "'mean'",
            make=lambda f=loss_fn: Objective(mlp().double(), f, cut(whole, 25, 15)),
        )
        with pytest.warns(EdgescopeWarning, match="sum over the samples"):
            single = Objective(mlp().double(), loss_fn, whole)
        agrees(single, at_once(single.model, loss_fn, whole))
    for loss_fn in (hidden, hidden_classes, with_penalty(hidden)):
        refused(
            InputError,
            "weighted mean",
            "count=",
            make=lambda f=loss_fn: Objective(mlp().double(), f, cut(whole, 25, 15)),
        )
    rare = ordered(100, 99, 1)
    refused(InputError, "weighted mean", make=lambda: Objective(mlp().double(), hidden_classes, cut(rare, 150, 50)))


def contrastive(m: nn.Module, b: Any) -> Tensor:
    z = F.normalize(m(b[0]), dim=1)
    return F.cross_entropy(5 * z @ F.normalize(m(b[0] + 0.1), dim=1).T, torch.arange(len(z)))


def hand_normalised(m: nn.Module, b: Any) -> Tensor:
    z = m(b[0])
    return F.cross_entropy((z - z.mean(0)) / z.std(0), b[1])


def hardest(m: nn.Module, b: Any) -> Tensor:
    return F.cross_entropy(m(b[0]), b[1], reduction="none").topk(max(1, len(b[0]) // 4)).values.mean()


def root(m: nn.Module, b: Any) -> Tensor:
    return F.mse_loss(m(b[0]), b[0][:, :3]).sqrt()


def balanced(m: nn.Module, b: Any) -> Tensor:
    z = m(b[0])
    return F.cross_entropy(z, b[1]) + 0.01 * z.softmax(1).mean(0).square().sum()


@pytest.mark.parametrize("loss_fn", [contrastive, hand_normalised, hardest, root, balanced])
def test_coupled_samples_are_named(loss_fn: LossFunction) -> None:
    torch.manual_seed(0)
    model, whole = mlp().double(), rows(60)
    batches = cut(whole, 35, 25)
    with pytest.warns(EdgescopeWarning, match="which samples stand together") as caught:
        objective = Objective(model, loss_fn, batches)
    assert len(caught) == 1  # what the model says of single samples is not passed on
    assert caught[0].filename == __file__
    losses = [at_once(model, loss_fn, batch) for batch in batches]
    assert relative(objective.gradient(), (35 * losses[0].gradient + 25 * losses[1].gradient) / 60) < 1e-9
    agrees(Objective(model, loss_fn, whole), at_once(model, loss_fn, whole))  # one batch is all there is
    refused(InputError, "not a mean over samples", make=lambda: Objective(model, loss_fn, whole, chunk=20))


def test_what_cannot_be_tested_is_said() -> None:
    torch.manual_seed(0)
    model, whole = mlp().double(), rows()
    eights: LossFunction = lambda m, b: F.cross_entropy(m(b[0].view(8, -1, 4)).flatten(0, 1), b[1])  # noqa: E731
    with pytest.warns(EdgescopeWarning, match="could not be tested"):
        objective = Objective(model, eights, cut(whole, 24, 16))
    agrees(objective, at_once(model, eights, whole))


def test_no_valid_target_at_all() -> None:
    for n, sizes in ((6, (4, 2)), (40, (25, 15)), (40, (40,))):
        whole = rows(n, range(n))
        data = cut(whole, *sizes) if len(sizes) > 1 else whole
        refused(
            InputError, "no batch has a valid target", "-100", make=lambda d=data: Objective(mlp().double(), ce(), d)
        )


def test_sequences_of_different_lengths_weigh_what_the_loss_divides_by() -> None:
    torch.manual_seed(0)
    model = language_model()
    lengths = [7, 7, 7, 4, 4, 3, 3, 3, 3, 3]
    whole = sentences(lengths)
    batches = [{k: v[a:b, :n] for k, v in whole.items()} for a, b, n in ((0, 3, 7), (3, 5, 4), (5, 10, 3))]
    agrees(Objective(model, HF, batches), at_once(model, HF, whole))
    # Another mean over tokens leaves no trace of what it divides by: said, unless count= says.
    flat: LossFunction = lambda m, b: m(**b).logits.square().mean()  # noqa: E731
    with pytest.warns(EdgescopeWarning, match="different shapes"):
        Objective(model, flat, batches)
    tokens = Objective(model, flat, batches, count=lambda b: float(b["labels"].numel()))
    losses = [(b["labels"].numel(), float(flat(model, b).detach())) for b in batches]
    assert float(tokens.loss()) == pytest.approx(
        sum(n * one for n, one in losses) / sum(n for n, _ in losses), rel=1e-12
    )
    # A mean over samples, whatever their length, is one.
    label: LossFunction = lambda m, b: F.cross_entropy(m(**b).logits.mean(1), b["input_ids"][:, 0])  # noqa: E731
    objective = Objective(model, label, batches)
    ones = [(len(b["labels"]), float(label(model, b).detach())) for b in batches]
    assert float(objective.loss()) == pytest.approx(sum(n * one for n, one in ones) / 10, rel=1e-12)


def test_counts_of_the_users() -> None:
    torch.manual_seed(0)
    model, whole = mlp().double(), rows()

    def made(loss_fn: LossFunction, count: Any) -> Objective:
        return Objective(model, loss_fn, cut(whole, 25, 15), count=count)

    for loss_fn, count in (
        (hidden, lambda b: float(b[0][:, 0].exp().sum())),
        (hidden, lambda b: 3 * b[0][:, 0].exp().sum()),  # up to a factor
        (hidden_classes, lambda b: CLASSES[b[1]].sum()),
        (wce, lambda b: CLASSES[b[1]].sum()),
        (ce(), lambda b: 7.5 * len(b[0])),
    ):
        agrees(made(loss_fn, count), at_once(model, loss_fn, whole))
    single = made(hidden, lambda b: b[0][:, 0].float().exp().sum())
    agrees(single, at_once(model, hidden, whole), slack=1e-6)
    refused(InputError, "count= does not weigh", "class weights", make=lambda: made(wce, lambda b: len(b[0])))
    refused(InputError, "count= does not weigh", "number of samples", make=lambda: made(ce(), lambda b: 1))
    even = cut(whole, 24, 16)  # which are looked at in pieces of one size
    refused(InputError, "does not weigh", make=lambda: Objective(model, ce(), even, count=lambda b: 1))
    refused(InputError, "count of type int", "a function count(batch)", make=lambda: made(ce(), 25))
    refused(InputError, "count= failed", "TypeError", make=lambda: made(ce(), lambda b: b + 1))
    refused(InputError, "count= failed", "KeyError", make=lambda: made(ce(), lambda b: {}["n"]))
    refused(InputError, "count= failed", "ValueError", make=lambda: made(ce(), lambda b: "many"))
    with pytest.warns(EdgescopeWarning, match="not the mean that count= says"):
        made(hidden, lambda b: len(b[0]))


def test_weights_stay_with_parts_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, whole = mlp().double(), rows(40, range(5, 25))
    some = next(mini_batches(Objective(model, ce(), cut(whole, 25, 15)), 20, seed=3))
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(3))[:20]
    agrees(some, at_once(model, ce(), (whole[0][drawn], whole[1][drawn])))
    monkeypatch.setattr("edgescope.objective.batches.available", lambda device: 0)
    agrees(Objective(model, ce(), cut(whole, 25, 15)), at_once(model, ce(), whole))
