"""Many small networks of one architecture trained together, each with its own hyper-parameters and mini-batches."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from edgescope.errors import InputError
from edgescope.losses import Supervised
from edgescope.objective.modules import refuse_dropout, uses_batch_statistics
from edgescope.training.gradients import EpochOrder

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Member:
    """How one network of a stack is trained: as ``torch.optim.SGD`` with these options would.

    ``seed`` is that of the order of its mini-batches, which is the order that a run of this seed has.
    """

    lr: float
    seed: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"lr = {self.lr}", expected="a positive finite learning rate")
        for name, value in (("momentum", self.momentum), ("weight_decay", self.weight_decay)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} = {value}", expected="a finite number of at least 0")


class Stack:
    """M networks whose parameters lie side by side, so that one step of all is one batched computation.

    Every member sees what it would see alone: its own mini-batches of ``batch`` samples (None: all), its own learning
    rate, momentum and weight decay; one that diverges does not touch the others. Equal to one-by-one training up to
    rounding. For networks so small that a step is spent on starting operations rather than on arithmetic.

    Args:
        models: of one architecture, without dropout and batch statistics; read now, written by :meth:`model` only.
        loss_fn: as made by :func:`edgescope.supervised`.
        data: inputs and targets, the same for all.
        members: one for each model.
        batch: samples in a mini-batch of every member. Members of other batch sizes belong into a stack of their own.

    Raises :class:`InputError` for models that differ, cannot be stacked, or do not match the members.
    Memory: M times parameters, their gradients and one mini-batch.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        loss_fn: Supervised,
        data: tuple[Tensor, Tensor],
        members: Sequence[Member],
        batch: int | None = None,
    ) -> None:
        if not models or len(models) != len(members):
            raise InputError(f"{len(models)} models for {len(members)} members", expected="one each, at least one")
        if batch is not None and not 1 <= batch <= len(data[0]):
            raise InputError(f"batch = {batch}", expected=f"1 to {len(data[0])}, the number of samples")
        _refuse_unstackable(models)
        self.members = tuple(members)
        self.steps = 0
        self._orders = [] if batch is None else [EpochOrder(len(data[0]), batch, m.seed) for m in members]
        self._loss_fn, self._data = loss_fn, data
        self._skeleton = copy.deepcopy(models[0]).to("meta")
        parameters, self._buffers = torch.func.stack_module_state(list(models))
        self._parameters = {name: tensor.detach() for name, tensor in parameters.items()}
        dtype = next(iter(self._parameters.values())).dtype
        lr, momentum, decay = (
            torch.tensor([getattr(member, name) for member in members], dtype=dtype)
            for name in ("lr", "momentum", "weight_decay")
        )
        self._rates, self._decays = [lr, momentum, decay], bool(decay.any())
        self._velocities = {n: torch.zeros_like(t) for n, t in self._parameters.items()} if momentum.any() else {}
        self._steps: dict[int, Callable[..., tuple[Tensor, Tensors]]] = {}

    def step(self) -> Float[Tensor, " M"]:
        """One step of every member; the loss of each on its mini-batch, before the step."""
        inputs, targets = self._batch()
        samples = targets.shape[1 if self._orders else 0]
        if samples not in self._steps:  # the last batch of an epoch may be smaller
            self._steps[samples] = self._traced(inputs, targets)
        with torch.no_grad():
            losses, gradients = self._steps[samples](self._parameters, self._buffers, inputs, targets)
            for name, w in self._parameters.items():
                lr, momentum, decay = (rate.view(-1, *[1] * (w.ndim - 1)) for rate in self._rates)
                gradient = gradients[name]
                if self._decays:
                    gradient = gradient + decay * w
                if self._velocities:
                    gradient = self._velocities[name].mul_(momentum).add_(gradient)
                w.sub_(lr * gradient)
        self.steps += 1
        return losses

    def losses(self, data: tuple[Tensor, Tensor]) -> Float[Tensor, " M"]:
        """The mean loss of every member on all of ``data``."""
        with torch.no_grad():
            return self._on(self._loss, *data)

    def outputs(self, inputs: Tensor) -> Float[Tensor, "M N C"]:
        """What every member makes of ``inputs``."""
        with torch.no_grad():
            return self._on(self._outputs, inputs)

    def flat(self) -> Float[Tensor, "M P"]:
        """The parameters of every member as a vector, in the order of an objective."""
        return torch.cat([tensor.flatten(1) for tensor in self._parameters.values()], 1)

    def model(self, number: int, into: nn.Module) -> nn.Module:
        """The network ``into``, of the same architecture, with the parameters of a member."""
        with torch.no_grad():
            for name, tensor in into.named_parameters():
                tensor.copy_(self._parameters[name][number])
        return into

    def keep(self, numbers: Sequence[int]) -> None:
        """Go on with these members alone, in this order; the first step after costs as much as the first of all."""
        if not numbers or not all(0 <= number < len(self.members) for number in numbers):
            raise InputError(f"members {list(numbers)}", expected=f"one or more of 0 to {len(self.members) - 1}")
        chosen = torch.tensor(list(numbers))
        self.members = tuple(self.members[number] for number in numbers)
        self._orders = [self._orders[number] for number in numbers] if self._orders else []
        self._rates = [rate[chosen] for rate in self._rates]
        for tensors in (self._parameters, self._buffers, self._velocities):
            for name in tensors:
                tensors[name] = tensors[name][chosen]
        self._steps.clear()

    def state(self) -> dict[str, Any]:
        """What ``load_state`` needs to continue bit for bit."""
        return {"steps": self.steps, "parameters": self._parameters, "velocities": self._velocities}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that an equal stack gave."""
        self.steps = state["steps"]
        with torch.no_grad():
            for name, tensor in self._parameters.items():
                tensor.copy_(state["parameters"][name])
        for name, tensor in self._velocities.items():
            tensor.copy_(state["velocities"][name])

    def _on(self, function: Callable[..., Tensor], *data: Tensor) -> Tensor:
        """``function`` of every member and the same ``data``."""
        mapped = torch.func.vmap(function, in_dims=(0, 0, *[None] * len(data)))
        return mapped(self._parameters, self._buffers, *data)

    def _outputs(self, parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        return torch.func.functional_call(self._skeleton, (parameters, buffers), (inputs,))

    def _loss(self, parameters: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor) -> Tensor:
        return self._loss_fn.criterion(self._outputs(parameters, buffers, inputs), targets)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The mini-batch of this step of every member side by side, or all samples once."""
        if not self._orders:
            return self._data
        places = torch.stack([order.places(self.steps) for order in self._orders])
        return self._data[0][places], self._data[1][places]

    def _traced(self, inputs: Tensor, targets: Tensor) -> Callable[..., tuple[Tensor, Tensors]]:
        """Losses and gradients of all members as one list of plain operations: mapping at every step costs more."""
        data_dim = 0 if self._orders else None
        mapped = torch.func.vmap(self._loss, in_dims=(0, 0, data_dim, data_dim))

        def losses_and_gradients(
            parameters: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor
        ) -> tuple[Tensor, Tensors]:
            losses = mapped(parameters, buffers, inputs, targets)
            # Each loss depends on its own slice alone, so the gradient of the sum holds all gradients.
            gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
            return losses, dict(zip(parameters, gradients, strict=True))

        parameters = {name: tensor.clone().requires_grad_() for name, tensor in self._parameters.items()}
        return make_fx(losses_and_gradients)(parameters, self._buffers, inputs, targets)


def _refuse_unstackable(models: Sequence[nn.Module]) -> None:
    shapes = [{name: tuple(tensor.shape) for name, tensor in model.named_parameters()} for model in models]
    for number, found in enumerate(shapes):
        if found != shapes[0]:
            raise InputError(
                f"model {number} of a stack has other parameters than model 0", expected="one architecture"
            )
    refuse_dropout(models[0])
    if uses_batch_statistics(models[0], "train"):
        raise InputError("a stack of models with batch statistics", expected="models that see every sample alone")
