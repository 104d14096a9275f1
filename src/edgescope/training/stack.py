"""Batched training of many small networks of one architecture, each with its own hyper-parameters and mini-batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from edgescope.errors import InputError
from edgescope.losses import Supervised
from edgescope.objective.modes import refuse_dropout, uses_batch_statistics
from edgescope.options import check_fields, real
from edgescope.training.gradients import EpochOrder

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Member:
    """The options of one network of a stack, with the meaning that they have in ``torch.optim.SGD``.

    ``seed`` sets the order of its mini-batches, which is that of a single run with this seed. ``factors`` are those of
    the learning rate by the name of a parameter, 1 where it has none.
    """

    lr: float
    seed: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        size, share = real(least=0), real(least=0, below=1)
        check_fields(self, "a member of a stack", lr=real(above=0), momentum=share, weight_decay=size)


class Stack:
    """M networks with stacked parameters, so that one step of all networks is one batched computation.

    Every member has its own mini-batches of ``batch`` samples (None: all), learning rate, momentum and weight decay,
    and a member that diverges does not affect the others. The result equals that of separate training up to rounding.
    Useful for small networks, whose time per step is dominated by the overhead of launching operations.

    Args:
        models: of one architecture, without dropout and batch statistics; read now, written by :meth:`model` only.
        loss_fn: as made by :func:`edgescope.supervised`.
        data: inputs and targets, the same for all.
        members: one for each model.
        batch: samples in a mini-batch of every member. Members with another batch size need another stack.

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
            raise InputError(
                f"{len(models)} models for {len(members)} members",
                expected="one model for each member, and at least one",
            )
        if batch is not None and not 1 <= batch <= len(data[0]):
            raise InputError(f"batch = {batch}", expected=f"1 to {len(data[0])}, the number of samples")
        _refuse_unstackable(models)
        self.members = tuple(members)
        self.steps = 0
        self._orders = (
            [] if batch is None else [EpochOrder(len(data[0]), batch, m.seed, data[0].device) for m in members]
        )
        self._loss_fn, self._data = loss_fn, data
        self._skeleton = copy.deepcopy(models[0]).to("meta")
        parameters, self._buffers = torch.func.stack_module_state(list(models))
        self._parameters = {name: tensor.detach() for name, tensor in parameters.items()}
        like = next(iter(self._parameters.values()))
        lr, momentum, decay = (
            torch.tensor([getattr(member, name) for member in members], dtype=like.dtype, device=like.device)
            for name in ("lr", "momentum", "weight_decay")
        )
        self._rates, self._decays = [lr, momentum, decay], bool(decay.any())
        self._factors = {
            name: torch.tensor(
                [member.factors.get(name, 1.0) for member in members], dtype=like.dtype, device=lr.device
            )
            for name in self._parameters
            if any(name in member.factors for member in members)
        }
        self._velocities = {n: torch.zeros_like(t) for n, t in self._parameters.items()} if momentum.any() else {}
        self._steps: dict[int, Callable[..., tuple[Tensor, Tensors]]] = {}

    def step(self) -> Float[Tensor, " M"]:
        """Take one step of every member; return the loss of each on its mini-batch before the step."""
        inputs, targets = self._batch()
        samples = targets.shape[1 if self._orders else 0]
        if samples not in self._steps:  # the last batch of an epoch may be smaller
            self._steps[samples] = self._traced(inputs, targets)
        with torch.no_grad():
            losses, gradients = self._steps[samples](self._parameters, self._buffers, inputs, targets)
            for name, w in self._parameters.items():
                lr, momentum, decay = (rate.view(-1, *[1] * (w.ndim - 1)) for rate in self._rates)
                if name in self._factors:
                    lr = lr * self._factors[name].view(lr.shape)
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
        """The outputs of every member on ``inputs``."""
        with torch.no_grad():
            return self._on(self._outputs, inputs)

    def flat(self) -> Float[Tensor, "M P"]:
        """The flat parameter vector of every member, in the order of an objective."""
        return torch.cat([tensor.flatten(1) for tensor in self._parameters.values()], 1)

    def model(self, number: int, into: nn.Module) -> nn.Module:
        """Copy the parameters of a member into the network ``into``, of the same architecture, and return it."""
        with torch.no_grad():
            for name, tensor in into.named_parameters():
                tensor.copy_(self._parameters[name][number])
        return into

    def keep(self, numbers: Sequence[int]) -> None:
        """Keep only these members, in this order. The next step is traced again, which is as slow as the first one."""
        if not numbers or not all(0 <= number < len(self.members) for number in numbers):
            raise InputError(f"members {list(numbers)}", expected=f"one or more of 0 to {len(self.members) - 1}")
        chosen = torch.tensor(list(numbers), device="cpu")
        self.members = tuple(self.members[number] for number in numbers)
        self._orders = [self._orders[number] for number in numbers] if self._orders else []
        self._rates = [rate[chosen] for rate in self._rates]
        for tensors in (self._parameters, self._buffers, self._velocities, self._factors):
            for name in tensors:
                tensors[name] = tensors[name][chosen]
        self._steps.clear()

    def state(self) -> dict[str, Any]:
        """The state from which ``load_state`` continues bit for bit."""
        return {"steps": self.steps, "parameters": self._parameters, "velocities": self._velocities}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from the state of an equal stack."""
        self.steps = state["steps"]
        with torch.no_grad():
            for name, tensor in self._parameters.items():
                tensor.copy_(state["parameters"][name])
        for name, tensor in self._velocities.items():
            tensor.copy_(state["velocities"][name])

    def _on(self, function: Callable[..., Tensor], *data: Tensor) -> Tensor:
        """``function`` of every member on the same ``data``."""
        mapped = torch.func.vmap(function, in_dims=(0, 0, *[None] * len(data)))
        return mapped(self._parameters, self._buffers, *data)

    def _outputs(self, parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        return torch.func.functional_call(self._skeleton, (parameters, buffers), (inputs,))

    def _loss(self, parameters: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor) -> Tensor:
        return self._loss_fn.criterion(self._outputs(parameters, buffers, inputs), targets)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The stacked mini-batches of all members for this step, or all samples once."""
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
                f"the parameters of model {number} differ in name or shape from those of model 0",
                expected="one architecture",
            )
    refuse_dropout(models[0])
    if uses_batch_statistics(models[0]):
        raise InputError("a stack of models with batch statistics", expected="models that treat samples independently")
