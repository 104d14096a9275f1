"""Cross-entropy of a linear layer over a large vocabulary, whose logits are never held at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from edgescope.errors import InputError, one_of
from edgescope.options import checked, integer, optional, type_of

Reduction = Literal["mean", "sum", "none"]

LOGITS: Final = 2**22
"""How many logits are held at once by default: 16 MiB in float32, and derivatives take some four times as much."""


@checked(chunk=optional(integer(1)))
def linear_cross_entropy(
    hidden: Float[Tensor, "*tokens D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "*tokens"],
    bias: Float[Tensor, " V"] | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    chunk: int | None = None,
) -> Float[Tensor, "*tokens"] | Float[Tensor, ""]:
    """The cross-entropy in nats of the logits ``hidden @ weight.T + bias``, as ``torch.nn.functional.cross_entropy``.

    Logits are computed for ``chunk`` tokens at a time and again for each derivative, so that of all tokens they are
    never held: neither by the loss nor by its gradient, Hessian products or Gauss-Newton products. Memory: a few
    vectors of the sizes of ``hidden`` and ``weight``, and some four blocks of (chunk, V) numbers. It can be
    differentiated by reverse and forward mode, and vectorised with ``vmap``; third derivatives hold all logits. Torch's
    own function of this name (2.13) holds all logits unless ``options`` are given, and then has no second derivative.

    Args:
        hidden: what the linear layer is applied to, for each token.
        weight: the weight of the linear layer, one row for each entry of the vocabulary.
        targets: the index of the right entry for each token, or ``ignore_index``.
        bias: the bias of the linear layer.
        ignore_index: tokens with this target have no loss, and count nothing in the mean.
        reduction: "mean" over the tokens that are not ignored (NaN where there are none), "sum", or "none", which
            returns the loss of each token, in the shape of ``targets``.
        chunk: tokens at a time; by default as many as have 4 million logits.

    Raises :class:`InputError` for shapes that do not fit, and for targets that are not in the vocabulary.

    Cost, in products of a (tokens, D) with a (D, V) matrix: one for the loss, three more for the gradient (two where
    logits are kept), and seven for a Hessian product (six).
    """
    one_of(reduction, get_args(Reduction), "reduction")
    _check(hidden, weight, targets, bias, ignore_index)
    flat, labels = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1).long()
    valid = labels != ignore_index
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    step = max(1, LOGITS // len(weight)) if chunk is None else chunk
    labels, counts = torch.where(valid, labels, 0), valid.to(flat.dtype)
    losses: Tensor = _TokenLosses.apply(flat, weight, bias, labels, counts, step)  # type: ignore[no-untyped-call]
    if reduction == "none":
        return losses.view(targets.shape)
    if reduction == "sum":
        return losses.sum()
    if ignore_index == 0:
        return losses.sum() / valid.sum()
    # The same mean, by an operation that shows what is left out of it to those who look for the weights of batches.
    return F.nll_loss(-losses[:, None], torch.where(valid, 0, ignore_index), ignore_index=ignore_index)


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, ignore_index: int) -> None:
    for name, thing in (("hidden", hidden), ("weight", weight), ("targets", targets)):
        if not isinstance(thing, Tensor):
            raise InputError(f"{name} of type {type_of(thing)}", expected="a tensor")
    fits = weight.ndim == 2 and hidden.ndim >= 1 and hidden.shape[-1] == weight.shape[1]
    if not fits or targets.shape != hidden.shape[:-1] or (bias is not None and bias.shape != weight.shape[:1]):
        shown = "" if bias is None else f", bias of shape {tuple(bias.shape)}"
        raise InputError(
            f"hidden of shape {tuple(hidden.shape)}, weight of shape {tuple(weight.shape)}, targets of shape"
            f" {tuple(targets.shape)}{shown}",
            expected="hidden (*tokens, D), weight (V, D), targets (*tokens), bias (V,)",
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise InputError(f"targets of type {targets.dtype}", expected="indices into the vocabulary, of type int64")
    if not targets.numel() or torch._C._functorch.is_functorch_wrapped_tensor(targets):
        return
    wrong = targets[(targets != ignore_index) & ((targets < 0) | (targets >= len(weight)))]
    if wrong.numel():
        raise InputError(
            f"a target of {int(wrong[0])} for a vocabulary of {len(weight)}",
            expected=f"targets from 0 to {len(weight) - 1}"
            + (f", or ignore_index={ignore_index}" if ignore_index > torch.iinfo(torch.int64).min else ""),
        )


def _pieces(tokens: int, chunk: int) -> Iterator[slice]:
    """Slices of at most ``chunk`` tokens; an empty one where there are none."""
    for start in range(0, max(tokens, 1), chunk):
        yield slice(start, min(start + chunk, tokens))


def _errors(logits: Float[Tensor, "n V"], labels: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """The probabilities of a chunk, and what they are beyond the right ones: the derivative of the losses."""
    probabilities = logits.softmax(1)
    return probabilities, probabilities.scatter_add(1, labels[:, None], -torch.ones_like(probabilities[:, :1]))


def _added(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """``total`` and the product of two matrices, without memory for another one where that can be done in place."""
    if total is None:
        return left @ right
    if torch._C._functorch.is_functorch_wrapped_tensor(total):
        return total.add_(left @ right)
    return total.addmm_(left, right)


def _added_sum(total: Tensor | None, rows: Tensor) -> Tensor:
    return rows.sum(0) if total is None else total.add_(rows.sum(0))


class _TokenLosses(torch.autograd.Function):
    """The loss of each token, times its weight (0 or 1); derivatives by hidden states, weight and bias."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, counts: Tensor, chunk: int
    ) -> Float[Tensor, " n"]:
        found = []
        for piece in _pieces(len(hidden), chunk):
            logits = torch.addmm(bias, hidden[piece], weight.T)
            found.append(logits.logsumexp(1) - logits.gather(1, labels[piece, None])[:, 0])
        return torch.cat(found) * counts

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.chunk = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, counts = ctx.saved_tensors
        given = slope * counts, hidden, weight, bias, labels, ctx.chunk
        found = _TokenGradients.apply(*given)  # type: ignore[no-untyped-call]
        return (*found, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *moved: Tensor | None) -> Tensor:
        hidden, weight, bias, labels, counts = ctx.saved_tensors
        found = []
        for piece in _pieces(len(hidden), ctx.chunk):
            _, error = _errors(torch.addmm(bias, hidden[piece], weight.T), labels[piece])
            found.append((error * _moved_logits(hidden[piece], weight, moved[0], moved[1], moved[2], piece)).sum(1))
        return torch.cat(found) * counts


def _moved_logits(
    hidden: Tensor,
    weight: Tensor,
    by_hidden: Tensor | None,
    by_weight: Tensor | None,
    by_bias: Tensor | None,
    at: slice,
) -> Float[Tensor, "n V"]:
    """How the logits of a chunk change with hidden states, weight and bias."""
    moved = torch.zeros_like(hidden[:, :1]) @ torch.zeros_like(weight[:, :1]).T if by_bias is None else by_bias
    if by_weight is not None:
        moved = moved + hidden @ by_weight.T
    if by_hidden is not None:
        moved = moved + by_hidden[at] @ weight.T
    return moved


class _TokenGradients(torch.autograd.Function):
    """What carries ``slope``, one number for each token, back to hidden states, weight and bias; and its derivative.

    Third derivatives go through the operations of ``backward``, which then keep the logits of all tokens.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        slope: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, chunk: int
    ) -> tuple[Float[Tensor, "n D"], Float[Tensor, "V D"], Float[Tensor, " V"]]:
        by_hidden, by_weight, by_bias = [], None, None
        for piece in _pieces(len(hidden), chunk):
            _, error = _errors(torch.addmm(bias, hidden[piece], weight.T), labels[piece])
            error = error * slope[piece, None]
            by_hidden.append(error @ weight)
            by_weight = _added(by_weight, error.T, hidden[piece])
            by_bias = _added_sum(by_bias, error)
        assert by_weight is not None
        assert by_bias is not None
        return torch.cat(by_hidden), by_weight, by_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.chunk = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        """The derivatives of the sum of the products of all three outputs with these vectors."""
        slope, hidden, weight, bias, labels = ctx.saved_tensors
        to_hidden, to_weight, to_bias = vectors
        by_slope, by_hidden, by_weight, by_bias = [], [], None, None
        for piece in _pieces(len(hidden), ctx.chunk):
            part = hidden[piece]
            probabilities, error = _errors(torch.addmm(bias, part, weight.T), labels[piece])
            moved = _moved_logits(part, weight, to_hidden, to_weight, to_bias, piece)
            by_slope.append((error * moved).sum(1))
            moved = moved - (probabilities * moved).sum(1, keepdim=True)
            curved = probabilities * moved * slope[piece, None]
            error = error * slope[piece, None]
            by_weight = _added(by_weight, curved.T, part)
            if to_hidden is not None:
                by_weight = _added(by_weight, error.T, to_hidden[piece])
            back = curved @ weight
            by_hidden.append(back if to_weight is None else back + error @ to_weight)
            by_bias = _added_sum(by_bias, curved)
        return torch.cat(by_slope), torch.cat(by_hidden), by_weight, by_bias, None, None

    @staticmethod
    def jvp(ctx: Any, *moved: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        slope, hidden, weight, bias, labels = ctx.saved_tensors
        steeper, with_hidden, with_weight, with_bias, *_ = moved
        by_hidden, by_weight, by_bias = [], None, None
        for piece in _pieces(len(hidden), ctx.chunk):
            part = hidden[piece]
            probabilities, error = _errors(torch.addmm(bias, part, weight.T), labels[piece])
            change = _moved_logits(part, weight, with_hidden, with_weight, with_bias, piece)
            change = probabilities * (change - (probabilities * change).sum(1, keepdim=True)) * slope[piece, None]
            if steeper is not None:
                change = change + error * steeper[piece, None]
            error = error * slope[piece, None]
            by_weight = _added(by_weight, change.T, part)
            if with_hidden is not None:
                by_weight = _added(by_weight, error.T, with_hidden[piece])
            back = change @ weight
            by_hidden.append(back if with_weight is None else back + error @ with_weight)
            by_bias = _added_sum(by_bias, change)
        assert by_weight is not None
        assert by_bias is not None
        return torch.cat(by_hidden), by_weight, by_bias
