"""Small problems of every kind that an objective must handle, each with its dense float64 Hessian as the reference."""

from __future__ import annotations

import copy
import functools
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from edgescope.losses import cross_entropy, half_mse, supervised

Pair = namedtuple("Pair", ["inputs", "targets"])


@dataclass(frozen=True)
class Case:
    """A model, a loss and batches; ``mode`` is the objective's."""

    model: nn.Module
    loss_fn: Callable[[nn.Module, Any], Tensor]
    batches: list[Any]
    mode: str = "eval"
    smooth: bool = True


def mlp(activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 3))


def labelled(n: int, *shape: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(n, *shape), torch.randint(classes, (n,))


class Net(nn.Module):
    """A module made of a few parts and a forward function, to write the odd model in one line."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def mlp_half_mse() -> Case:
    return Case(mlp(), supervised(half_mse), [labelled(10, 4)])


def torch_mse() -> Case:
    return Case(mlp(), supervised(F.mse_loss), [(torch.randn(7, 4), torch.randn(7, 3))])


def ragged_cross_entropy() -> Case:
    return Case(mlp(nn.GELU), supervised(F.cross_entropy), [labelled(8, 4), labelled(2, 4)])


def smoothed_cross_entropy() -> Case:
    return Case(mlp(nn.SiLU), supervised(lambda z, y: cross_entropy(z, y, 0.1)), [labelled(6, 4), labelled(3, 4)])


def relu_cnn() -> Case:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 3)
    )
    return Case(model, supervised(F.cross_entropy), [labelled(6, 1, 6, 6), labelled(3, 1, 6, 6)], smooth=False)


def batch_norm(mode: str) -> Case:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
    model(torch.randn(9, 1, 4, 4))
    return Case(model, supervised(F.cross_entropy), [labelled(7, 1, 4, 4), labelled(5, 1, 4, 4)], mode)


def layer_norm() -> Case:
    return Case(nn.Sequential(nn.LayerNorm(4), mlp(), nn.LayerNorm(3)), supervised(half_mse), [labelled(6, 4)])


def image_norm(norm: nn.Module) -> Case:
    model = nn.Sequential(nn.Conv1d(1, 4, 2), norm, nn.Tanh(), nn.Flatten(), nn.Linear(12, 3))
    return Case(model, supervised(F.cross_entropy), [labelled(5, 1, 4), labelled(3, 1, 4)])


def attention() -> Case:
    net = Net(lambda m, x: m.mha(x, x, x)[0].mean(1), mha=nn.MultiheadAttention(4, 2, batch_first=True))
    return Case(net, supervised(F.cross_entropy), [labelled(5, 3, 4)])


def transformer(norm_first: bool) -> Case:
    layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1, batch_first=True, norm_first=norm_first)
    net = Net(lambda m, x: m.layer(x).mean(1), layer=layer)
    return Case(net, supervised(F.cross_entropy), [labelled(4, 3, 4), labelled(2, 3, 4)], smooth=False)


def keyword_batch() -> Case:
    """As models of a well-known hub are called: a dict of tensors in, an object with ``.loss`` out."""

    def forward(m: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
        hidden = m.embed(input_ids)
        mixed = F.scaled_dot_product_attention(hidden, hidden, hidden, attn_mask=attention_mask[:, None, :].bool())
        logits = m.head(mixed + hidden)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(loss=loss, logits=logits)

    def batch(n: int) -> dict[str, Tensor]:
        ids = torch.randint(6, (n, 4))
        mask = torch.ones(n, 4, dtype=torch.long)
        mask[0, 3] = 0
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.clone()}

    net = Net(forward, embed=nn.Embedding(6, 3), head=nn.Linear(3, 6))
    return Case(net, lambda model, batch: model(**batch).loss, [batch(3), batch(2)])


def recurrent(kind: type[nn.RNNBase]) -> Case:
    net = Net(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=kind(2, 3, batch_first=True), head=nn.Linear(3, 2))
    return Case(net, supervised(F.cross_entropy), [labelled(4, 3, 2, classes=2)])


def tied_embedding() -> Case:
    net = Net(lambda m, x: m.head(m.embed(x).tanh()).mean(1), embed=nn.Embedding(5, 4), head=nn.Linear(4, 5))
    net.head.weight = net.embed.weight
    return Case(net, supervised(F.cross_entropy), [(torch.randint(5, (6, 3)), torch.randint(5, (6,)))])


def frozen_and_unused() -> Case:
    net = Net(
        lambda m, x: m.out(m.mid(m.first(x)).tanh()), first=nn.Linear(4, 4), mid=nn.Linear(4, 3), out=nn.Linear(3, 3)
    )
    net.first.requires_grad_(False)
    net.out.bias.requires_grad_(False)
    net.add_module("unused", nn.Linear(2, 2))
    return Case(net, supervised(F.cross_entropy), [labelled(6, 4)])


def weight_norm() -> Case:
    first = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.Sequential(first, nn.Tanh(), nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), nn.Linear(4, 3))
    return Case(model, supervised(half_mse), [labelled(6, 4)])


def softmax_embedding() -> Case:
    net = Net(lambda m, x: m.head(m.embed(x).softmax(-1).flatten(1)), embed=nn.Embedding(4, 3), head=nn.Linear(6, 3))
    return Case(net, supervised(half_mse), [(torch.randint(4, (8, 2)), torch.randint(3, (8,)))])


def linear_in_some_parameters() -> Case:
    """The gradient with respect to the bias is constant: no graph to draw a second derivative from."""
    net = Net(lambda m, x: m.layer(x), layer=nn.Linear(4, 1))
    return Case(
        net, lambda model, batch: model(batch["x"]).mean() + model.layer.weight.pow(3).sum(), [{"x": torch.randn(5, 4)}]
    )


def list_of_two() -> Case:
    return Case(mlp(), supervised(half_mse), [list(labelled(6, 4)), list(labelled(3, 4))])


def dict_batches() -> Case:
    batches = [dict(zip(("inputs", "targets"), labelled(n, 4), strict=True)) for n in (5, 4)]
    return Case(mlp(), supervised(F.cross_entropy), batches)


def named_tuples() -> Case:
    return Case(mlp(), supervised(F.cross_entropy), [Pair(*labelled(6, 4)), Pair(*labelled(3, 4))])


CASES: dict[str, Callable[[], Case]] = {
    "mlp-half-mse": mlp_half_mse,
    "torch-mse": torch_mse,
    "cross-entropy-8+2": ragged_cross_entropy,
    "smoothed-cross-entropy": smoothed_cross_entropy,
    "relu-cnn": relu_cnn,
    "batchnorm-eval": lambda: batch_norm("eval"),
    "batchnorm-train": lambda: batch_norm("train"),
    "layernorm": layer_norm,
    "groupnorm": lambda: image_norm(nn.GroupNorm(2, 4)),
    "instancenorm": lambda: image_norm(nn.InstanceNorm1d(4, affine=True)),
    "attention": attention,
    "transformer-pre-norm": lambda: transformer(True),
    "transformer-post-norm": lambda: transformer(False),
    "keyword-batch": keyword_batch,
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "tied-embedding": tied_embedding,
    "frozen-and-unused": frozen_and_unused,
    "weight-norm": weight_norm,
    "softmax-embedding": softmax_embedding,
    "linear-in-some": linear_in_some_parameters,
    "lists": list_of_two,
    "dicts": dict_batches,
    "named-tuples": named_tuples,
}


def build(name: str, seed: int = 0) -> Case:
    torch.manual_seed(seed)
    return CASES[name]()


def rows_in(batch: Any) -> int:
    leaves = torch.utils._pytree.tree_leaves(batch)
    return len(next(leaf for leaf in leaves if isinstance(leaf, Tensor)))


class PlainWeightNorm(TorchFunctionMode):
    """torch's own weight normalisation has a wrong second derivative, so the reference computes it from its formula."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._weight_norm:
            v, g, _ = args
            return g * v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
        return func(*args, **(kwargs or {}))


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention made of operations that have second derivatives."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Whole(nn.Module):
    """The sample-weighted loss of a model over all batches, in float64."""

    def __init__(self, case: Case, l2: float = 0.0) -> None:
        super().__init__()
        self.inside = copy.deepcopy(case.model).double().train(case.mode == "train")
        for part in self.inside.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.p = 0.0
        self.loss_fn, self.l2 = case.loss_fn, l2
        convert = lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf  # noqa: E731
        self.batches = [torch.utils._pytree.tree_map(convert, batch) for batch in case.batches]
        self.trainable = {n: p for n, p in self.inside.named_parameters() if p.requires_grad}

    def forward(self, batch: Any = None) -> Tensor:
        if batch is not None:
            return self.loss_fn.outputs(self.inside, batch)
        counts = [rows_in(batch) for batch in self.batches]
        losses = [self.loss_fn(self.inside, batch) for batch in self.batches]
        return sum(n * loss for n, loss in zip(counts, losses, strict=True)) / sum(counts)

    def flat(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.trainable.values()])

    def at(self, flat: Tensor) -> Tensor:
        """The loss at a flat vector."""
        return self._called(flat) + 0.5 * self.l2 * flat.square().sum()

    def at_outputs(self, flat: Tensor, batch: Any) -> Tensor:
        """The model's outputs on one batch, at a flat vector."""
        return self._called(flat, batch)

    def _called(self, flat: Tensor, *args: Any) -> Tensor:
        sizes = [p.numel() for p in self.trainable.values()]
        pieces = flat.split(sizes)
        put_in = {f"inside.{n}": v.view(p.shape) for (n, p), v in zip(self.trainable.items(), pieces, strict=True)}
        # Running statistics move in training mode; they do not enter the loss there.
        put_in |= {f"inside.{n}": b.clone() for n, b in self.inside.named_buffers()}
        with PlainWeightNorm(), plain_attention():
            return torch.func.functional_call(self, put_in, args)


@dataclass(frozen=True)
class Reference:
    loss: Tensor
    gradient: Tensor
    hessian: Tensor
    at: Callable[[Tensor], Tensor]
    flat: Tensor


def reference(case: Case, l2: float = 0.0, flat: Tensor | None = None) -> Reference:
    """Loss, gradient and dense Hessian in float64, by torch's own ``autograd.functional``."""
    whole = Whole(case, l2)
    place = whole.flat() if flat is None else flat.double()
    leaf = place.clone().requires_grad_()
    loss = whole.at(leaf)
    (gradient,) = torch.autograd.grad(loss, leaf)
    hessian = torch.autograd.functional.hessian(whole.at, place)
    return Reference(loss.detach(), gradient, hessian, whole.at, place)


@functools.cache
def known(name: str) -> tuple[Case, Reference]:
    """A problem that no test changes, and its reference."""
    case = build(name)
    return case, reference(case)


def relative(found: Tensor, wanted: Tensor) -> float:
    """The distance of two tensors over the size of the second."""
    found, wanted = found.detach().double(), wanted.detach().double()
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-300))


def names(but: Sequence[str] = ()) -> list[str]:
    return [name for name in CASES if name not in but]


class Scaled(torch.autograd.Function):
    """w^3 with a second derivative that is off by a share."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, off: float) -> Tensor:
        ctx.save_for_backward(w)
        ctx.off = off
        return w**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (w,) = ctx.saved_tensors
        slope = 3 * w**2
        return gradient * (slope + ctx.off * (slope - slope.detach())), None
