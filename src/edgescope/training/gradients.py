"""The gradient of a training step, from the objective or from the model on a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from edgescope.losses import Supervised
from edgescope.objective import Objective
from edgescope.objective.modes import active_dropout, switch_masks_off, uses_batch_statistics


class Gradients(ABC):
    """Computes the gradient at the present parameters and stores it in ``.grad``."""

    @abstractmethod
    def compute(self, step: int) -> Tensor:
        """The training loss for optimizer step ``step`` (from 0), a scalar; ``.grad`` of every parameter is set."""

    def batch(self, step: int) -> tuple[Tensor, Tensor] | None:
        """The inputs and targets of step ``step``, where these are not all data of the objective."""
        return None


class FromObjective(Gradients):
    """The full-batch gradient from the objective, which reuses what a measurement computed at the same parameters."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def compute(self, step: int) -> Tensor:
        gradient = self.objective.gradient()
        for tensor, slot in zip(self.objective.tensors, self.objective.layout, strict=True):
            tensor.grad = gradient[slot.slice].view(slot.shape)
        return self.objective.loss()

    def loss(self) -> float:
        """The training loss at the present parameters. Costs one gradient, which the next step reuses."""
        self.objective.gradient()
        return float(self.objective.loss())


class FromBatches(Gradients):
    """The model in training mode on a batch: running statistics move, and dropout is active if ``masks``.

    ``size`` samples a batch, the last of an epoch perhaps smaller, in an order that depends on ``seed`` and the number
    of the epoch alone; None is all samples, in their order, at every step.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Supervised,
        data: tuple[Tensor, Tensor],
        size: int | None,
        seed: int,
        masks: bool = True,
    ) -> None:
        self.masks = masks
        self.model, self.loss_fn, self.data = model, loss_fn, data
        self._order = None if size is None else EpochOrder(len(data[0]), size, seed, data[0].device)

    def compute(self, step: int) -> Tensor:
        self.model.train()
        if not self.masks:
            switch_masks_off(self.model)
        self.model.zero_grad()
        loss = self.loss_fn(self.model, self.batch(step))
        loss.backward()
        return loss.detach()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The inputs and targets of step ``step``."""
        inputs, targets = self.data
        if self._order is None:
            return inputs, targets
        chosen = self._order.places(step)
        return inputs[chosen], targets[chosen]


class EpochOrder:
    """Which of ``samples`` samples are in each mini-batch of ``size``: every one once an epoch, in an order that
    depends on ``seed`` and the number of the epoch alone. The order goes to ``device`` once an epoch."""

    def __init__(self, samples: int, size: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.samples, self.size, self.seed, self.device = samples, size, seed, torch.device(device)
        self._epoch, self._order = -1, torch.empty(0, device="cpu")

    def places(self, step: int) -> Int[Tensor, " b"]:
        """The samples of step ``step`` (from 0); the last batch of an epoch may be smaller."""
        epoch, position = divmod(step, -(-self.samples // self.size))
        if epoch != self._epoch:
            drawn = np.random.SeedSequence((self.seed, epoch)).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(drawn[0]))
            order = torch.randperm(self.samples, generator=generator, device="cpu")
            self._epoch, self._order = epoch, order.to(self.device)
        return self._order[position * self.size : (position + 1) * self.size]


def has_dropout(model: nn.Module) -> bool:
    """Whether the model draws random masks in training mode."""
    return bool(active_dropout(model))


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether the model normalises with the statistics of the batch in training mode."""
    return uses_batch_statistics(model)
