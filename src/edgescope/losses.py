"""Losses for supervised learning by name, and loss functions of a model and a batch made from a criterion."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from edgescope.options import check_fields, integer, optional, real, text
from edgescope.registry import Registry
from edgescope.short_errors import short_errors

Criterion = Callable[[Tensor, Tensor], Tensor]

# By default torch silently leaves labels of -100 (`ignore_index`) out of the mean, which would change the loss. No
# label equals this number, so that -100 is an error like every other label out of range.
_NO_LABEL = torch.iinfo(torch.int64).min

# Parts of torch's messages for inputs that do not fit a layer. Other errors of a model pass through unchanged.
_MISFIT = ("shapes cannot be multiplied", "size mismatch", "to have", "dtype", "expected input", "Expected tensor")

Targets: TypeAlias = Shaped[Tensor, "*samples"] | Shaped[Tensor, "*samples C"]
"""Class indices, or numbers of the shape of the outputs."""


def half_mse(outputs: Float[Tensor, "*samples C"], targets: Targets) -> Float[Tensor, ""]:
    """Half the squared distance to the targets, summed over the last dimension and averaged over all others.

    Integer targets of shape ``samples`` are one-hot encoded; float targets have the shape of ``outputs``. This is
    0.5 * ||f - onehot||^2 of Cohen et al. (2021), the convention of every squared loss here: a factor 2 in the loss
    is a factor 2 in the sharpness. It consists of elementary operations, so that it can be differentiated twice in
    every mode and vectorised with ``vmap``, unlike ``torch.nn.functional.mse_loss``. Raises :class:`InputError` for
    shapes that do not match.
    """
    _check(outputs, targets)
    if not targets.is_floating_point():
        zeros = torch.zeros(outputs.shape, dtype=outputs.dtype, device=outputs.device)
        targets = zeros.scatter(-1, targets[..., None].long(), 1.0)
    return 0.5 * (outputs - targets).square().sum(-1).mean()


def cross_entropy(
    outputs: Float[Tensor, "*samples C"],
    targets: Targets,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats of logits, averaged over samples, or over tokens for logits (B, T, V) with targets (B, T).

    Integer targets of shape ``samples`` are class indices; float targets have the shape of ``outputs`` and are
    probabilities. ``smoothing`` mixes the targets with the uniform distribution (Szegedy et al. 2016, section 7).
    Raises :class:`InputError` for shapes that do not match.
    """
    _check(outputs, targets)
    last = outputs.ndim - 2
    targets = targets.flatten(0, last) if targets.is_floating_point() else targets.long().flatten()
    return nn.functional.cross_entropy(
        outputs.flatten(0, last), targets, label_smoothing=smoothing, ignore_index=_NO_LABEL
    )


def accuracy_counts(outputs: Float[Tensor, "*samples C"], targets: Targets) -> tuple[int, int]:
    """The number of correctly classified samples (or tokens), and the number of all.

    A sample is correct where its largest output is that of the target class. A single output is correct where it has
    the sign of its target, which has to be -1 or 1; an output of 0 is wrong. Raises :class:`InputError` for a single
    output with other targets.
    """
    _check(outputs, targets)
    if targets.is_floating_point() and outputs.shape[-1] == 1:
        if not bool((targets.abs() == 1).all()):
            raise InputError("the accuracy of a single output with real targets", expected="targets of -1 and 1")
        return int((outputs * targets > 0).sum()), targets.numel()
    labels = targets.argmax(-1) if targets.is_floating_point() else targets
    return int((outputs.argmax(-1) == labels).sum()), labels.numel()


class Loss(ABC):
    """A criterion with options: ``loss(outputs, targets)`` is the mean over samples, a scalar tensor."""

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]: ...


@dataclass(frozen=True)
class HalfMSE(Loss):
    """Half the squared distance to the one-hot targets, summed over classes."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        return half_mse(outputs, targets)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of logits, in nats."""

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "loss 'cross-entropy'", smoothing=real(least=0, below=1))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        return cross_entropy(outputs, targets, self.smoothing)


@dataclass(frozen=True)
class SquaredError(Loss):
    """The squared distance to the targets, without the factor 1/2 of ``mse``, as in Wen et al. (2023)."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        return 2 * half_mse(outputs, targets)


@dataclass(frozen=True)
class Logistic(Loss):
    """The logistic loss, in nats, of one output and targets of -1 and 1 that are wrong with probability ``smoothing``.

    (1 - p) log(1 + exp(-y f)) + p log(1 + exp(y f)), with outputs and targets (N, 1). For p > 0 its minimum is at
    f = y ``target``, where its second derivative in f is ``curvature`` (Wen, Li, Ma 2023, section on logistic loss).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "loss 'logistic'", smoothing=real(least=0, below=0.5))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        _check(outputs, targets)
        if not targets.is_floating_point() or outputs.shape[-1] != 1:
            raise InputError(
                f"the logistic loss of outputs of shape {tuple(outputs.shape)} with targets of type {targets.dtype}",
                expected="one output, and float targets of -1 and 1",
                hint="cross-entropy",
            )
        margins = targets * outputs
        smooth = nn.functional.softplus
        return ((1 - self.smoothing) * smooth(-margins) + self.smoothing * smooth(margins)).mean()

    @property
    def target(self) -> float:
        """The output that minimises the loss of a sample with y = 1: log((1 - p)/p)."""
        return math.log((1 - self.smoothing) / self.smoothing) if self.smoothing else math.inf

    @property
    def curvature(self) -> float:
        """The second derivative of the loss in the output, at its minimum: p (1 - p)."""
        return self.smoothing * (1 - self.smoothing)


@dataclass(frozen=True)
class LinearCrossEntropy(Loss):
    """Cross-entropy of a model that ends in a linear layer over a large vocabulary, whose logits are not held at once.

    ``head`` is the name of that layer in the model, ``head`` in this package's ``gpt``, and ``chunk`` the number of
    tokens whose logits are held, by default as many as have 4 million. :func:`supervised` makes a loss function of it
    that computes with :func:`linear_cross_entropy`; called with logits, it is :func:`cross_entropy`.
    """

    head: str = "head"
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, "loss 'linear-cross-entropy'", head=text(empty=False), chunk=optional(integer(1)))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        return cross_entropy(outputs, targets)


LOSSES: Registry[Loss] = Registry("loss")
LOSSES.add("mse", HalfMSE)
LOSSES.add("cross-entropy", CrossEntropy)
LOSSES.add("linear-cross-entropy", LinearCrossEntropy)
LOSSES.add("squared", SquaredError)
LOSSES.add("logistic", Logistic)


@dataclass(frozen=True)
class Supervised:
    """The loss of a model on batches of inputs and targets; made by :func:`supervised`.

    A batch is a tuple or list ``(inputs, targets)`` or a dict with these two keys. Where torch fails because the
    batch does not fit the model or the criterion, one :class:`InputError` says what does not fit.
    """

    criterion: Criterion

    def __call__(self, model: nn.Module, batch: Any) -> Float[Tensor, ""]:
        """The mean loss of ``model`` on ``batch``."""
        return self.criterion_of(self.outputs(model, batch), batch)

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """The outputs of the model for the inputs of ``batch``."""
        inputs, _ = _parts(batch)
        try:
            outputs = model(inputs)
        except (RuntimeError, IndexError) as error:
            said = _first_line(error)
            if isinstance(error, IndexError) or any(phrase in said for phrase in _MISFIT):
                raise InputError(
                    f"the model cannot take inputs of shape {tuple(inputs.shape)} and type {inputs.dtype}: {said}"
                ) from error
            raise
        if not isinstance(outputs, Tensor):
            raise InputError(
                f"the model returned a {type(outputs).__name__}",
                expected="a tensor of outputs",
                hint="a loss function of your own, loss_fn(model, batch)",
            )
        return outputs

    def targets(self, batch: Any) -> Tensor:
        """The targets of ``batch``."""
        return _parts(batch)[1]

    def criterion_of(self, outputs: Tensor, batch: Any) -> Float[Tensor, ""]:
        """The mean loss of these outputs with the targets of ``batch``."""
        targets = self.targets(batch)
        try:
            return self.criterion(outputs, targets)
        except InputError:
            raise
        except (RuntimeError, IndexError, ValueError) as error:
            _check_labels(outputs, targets)
            _check(outputs, targets, said=_first_line(error))
            raise


@dataclass(frozen=True)
class SupervisedHead(Supervised):
    """The loss of a model that ends in a linear layer, from what that layer is applied to; logits are not held.

    ``outputs`` are still the logits, of all tokens. Gauss-Newton products are those of the model with its logits as
    outputs. They are computed with ``before_head`` in the place of the outputs and ``criterion_after_head`` in that of
    the criterion, whose second derivative is the curvature of the cross-entropy in the logits, carried back through
    the linear layer.
    """

    criterion: LinearCrossEntropy

    def __call__(self, model: nn.Module, batch: Any) -> Float[Tensor, ""]:
        """The mean loss of ``model`` on ``batch``. Raises :class:`InputError` where the model ends in another way."""
        hidden, layer = self._before(model, batch)
        return self._mean(hidden, layer.weight, layer.bias, batch)

    def before_head(self, model: nn.Module, batch: Any) -> Float[Tensor, "rows D"]:
        """What the linear layer is applied to, a row for each token, and below it the rows of its weight.

        Where the layer has a bias, that is one more column, beside ones.
        """
        hidden, layer = self._before(model, batch)
        rows, bias = torch.cat([hidden.flatten(0, -2), layer.weight]), layer.bias
        if bias is None:
            return rows
        return torch.cat([rows, torch.cat([bias.new_ones(len(rows) - len(bias)), bias])[:, None]], 1)

    def criterion_after_head(
        self, rows: Float[Tensor, "rows D"], batch: Any, at: Float[Tensor, "rows D"]
    ) -> Float[Tensor, ""]:
        """The mean loss for these rows, with the logits linearized at the rows ``at``.

        The logits h W^T are h W0^T + h0 (W - W0)^T to first order: the products of (h, h0) and (W0, W - W0).
        """
        count = self.targets(batch).numel()
        hidden, weight = torch.cat([rows[:count], at[:count]], 1), torch.cat([at[count:], rows[count:] - at[count:]], 1)
        return self._mean(hidden, weight, None, batch)

    def _mean(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, batch: Any) -> Float[Tensor, ""]:
        hidden = hidden.flatten(0, -2) if hidden.ndim > 1 else hidden
        targets = self.targets(batch).flatten()
        # All labels count, as in `cross_entropy`: -100 is an error, too.
        return linear_cross_entropy(hidden, weight, targets, bias, ignore_index=_NO_LABEL, chunk=self.criterion.chunk)

    def _before(self, model: nn.Module, batch: Any) -> tuple[Tensor, nn.Linear]:
        """What the linear layer is applied to, for all tokens, and the layer, which the model is run without."""
        name = self.criterion.head
        layer = dict(model.named_modules()).get(name)
        if not isinstance(layer, nn.Linear):
            raise InputError(
                f"a model with {'a ' + type(layer).__name__ if layer else 'nothing'} at '{name}'",
                expected="the linear layer at which the model ends",
                hint="linear-cross-entropy:head=NAME, or cross-entropy",
            )
        with _as_identity(layer) as seen:
            found = self.outputs(model, batch)
        if len(seen) != 1 or found is not seen[0]:
            raise InputError(
                f"a model that does not end with its layer '{name}'",
                expected="the outputs of that layer as those of the model",
                hint="cross-entropy, or a loss function of your own with edgescope.losses.linear_cross_entropy",
            )
        return found, layer


@contextmanager
def _as_identity(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """Inside, the layer returns what it is given; the list of that."""
    seen: list[Tensor] = []
    before = vars(layer).get("forward")

    def forward(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return hidden

    layer.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before  # type: ignore[method-assign]


@short_errors
def supervised(criterion: Criterion) -> Supervised:
    """A loss function ``loss_fn(model, batch)`` for batches ``(inputs, targets)`` or dicts with these keys.

    ``criterion(outputs, targets)`` returns the mean over the samples of the batch. It is one of ``LOSSES``, a function
    of ``torch.nn.functional``, or a function of your own.
    """
    if isinstance(criterion, type):
        raise InputError(
            f"the class {criterion.__name__} as criterion",
            expected="a function of outputs and targets",
            hint=f"an instance, {criterion.__name__}(...)",
        )
    if not callable(criterion):
        raise InputError(
            f"a criterion of type {type(criterion).__name__}",
            expected="a function of outputs and targets",
            hint=f"LOSSES.build({criterion!r})" if isinstance(criterion, str) else None,
        )
    return SupervisedHead(criterion) if isinstance(criterion, LinearCrossEntropy) else Supervised(criterion)


def _parts(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, dict):
        if "inputs" not in batch or "targets" not in batch:
            raise InputError(
                f"a batch with the keys {', '.join(map(repr, batch)) or '(none)'}", expected="'inputs' and 'targets'"
            )
        inputs, targets = batch["inputs"], batch["targets"]
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        inputs, targets = batch
    else:
        length = f" of length {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise InputError(f"a batch that is a {type(batch).__name__}{length}", expected="a pair (inputs, targets)")
    for name, part in (("inputs", inputs), ("targets", targets)):
        if not isinstance(part, Tensor):
            raise InputError(f"the {name} of a batch are a {type(part).__name__}", expected="a tensor")
    if inputs.shape[:1] != targets.shape[:1]:
        raise InputError(
            f"a batch with inputs of shape {tuple(inputs.shape)} and targets of shape {tuple(targets.shape)}",
            expected="equal numbers of inputs and targets",
        )
    return inputs, targets


def _check(outputs: Tensor, targets: Tensor, said: str = "") -> None:
    # Broadcasting would silently accept shapes that do not match, and return a wrong loss.
    wanted = outputs.shape if targets.is_floating_point() else outputs.shape[:-1]
    if outputs.ndim < 2 or targets.shape != wanted:
        kind = "float" if targets.is_floating_point() else "integer"
        raise InputError(
            f"outputs of shape {tuple(outputs.shape)} with {kind} targets of shape {tuple(targets.shape)}"
            + (f" ({said})" if said else ""),
            expected="outputs (samples, classes) with integer targets (samples,) or float targets (samples, classes)",
        )


def _check_labels(outputs: Tensor, targets: Tensor) -> None:
    if targets.is_floating_point() or targets.shape != outputs.shape[:-1] or targets.numel() == 0:
        return
    low, high, classes = int(targets.min()), int(targets.max()), outputs.shape[-1]
    if low < 0 or high >= classes:
        raise InputError(
            f"a target of {low if low < 0 else high} for a model with {classes} outputs",
            expected=f"targets from 0 to {classes - 1}",
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
