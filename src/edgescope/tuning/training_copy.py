"""A copy of a model and its optimizer that trains by itself; the user's are never changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgescope.errors import InputError
from edgescope.objective.batches import Batch
from edgescope.objective.checks import evaluated
from edgescope.objective.modules import unwrapped as plain_module
from edgescope.optim.named import NamedGradientFlow
from edgescope.optim.pairs import one_optimizer
from edgescope.optim.sam import SAM
from edgescope.optim.unwrap import OptimizerLike, unwrapped

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""From the trainable parameters of a model to an optimizer; the learning rates it has stand in ratio to the first."""

OptimizerSource = str | OptimizerLike | MakeOptimizer
"""An optimizer by name with options, a live one, or a function that makes one of a list of parameters."""

LossFunction = Callable[[nn.Module, Batch], Tensor]

BLOWN_UP = 100.0
"""A loss so many times as far above 0 as the first one, or not finite, ends a training run as diverged."""


class TrainingCopy:
    """A deep copy of ``model`` with an optimizer of its own, and steps at learning rates that the caller gives.

    A live optimizer is copied with its state, so that training goes on from where it is. Where parameter groups have
    several learning rates, that of a step is the first group's, and the others keep their ratios to it.
    """

    def __init__(
        self, model: nn.Module, loss_fn: LossFunction, optimizer: OptimizerSource, clip: float | None = None
    ) -> None:
        memo: dict[int, Any] = {}
        inner = plain_module(model)
        try:
            self.model: nn.Module = copy.deepcopy(inner, memo)
        except Exception as error:
            raise InputError(
                f"the model {type(inner).__name__} cannot be copied ({type(error).__name__}: {error})",
                expected="a model that copy.deepcopy takes, since training is tried on copies",
                hint="a function that makes the model, in its place",
            ) from error
        self.loss_fn, self.clip = loss_fn, clip
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"the model {type(inner).__name__} has no trainable parameter")
        for parameter in self.parameters:
            parameter.grad = None
        self.optimizer = self._optimizer(optimizer, memo)
        if isinstance(self.optimizer, torch.optim.LBFGS):
            raise InputError(
                "the learning rate of LBFGS, whose steps are found by a line search",
                expected="an optimizer whose step follows from gradients",
            )
        rates = [float(group.get("lr", 1.0)) for group in self.optimizer.param_groups]
        first = next((rate for rate in rates if rate > 0), 1.0)
        self._ratios = [rate / first for rate in rates] if any(rates) else [1.0] * len(rates)

    def _optimizer(self, source: Any, memo: dict[int, Any]) -> torch.optim.Optimizer:
        if isinstance(source, str):
            named = one_optimizer(source)
            if isinstance(named, NamedGradientFlow):
                raise InputError("the learning rate of gradient-flow, which has none", expected="another optimizer")
            return named.build(self.parameters, lr=1e-3)
        if callable(source) and not isinstance(source, type):
            made = source(self.parameters)
            if not isinstance(made, torch.optim.Optimizer):
                raise InputError(
                    f"the function for the optimizer returned a {type(made).__name__}",
                    expected="a torch.optim.Optimizer",
                )
            return made
        return _copied(unwrapped(source), memo, self.parameters)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            if isinstance(group.get("lr"), Tensor):
                group["lr"].fill_(rate * ratio)
            else:
                group["lr"] = rate * ratio

    def step(self, batch: Batch, rate: float) -> float:
        """One optimizer step on ``batch`` at this learning rate; the loss before it, infinite where it is not finite.

        No step is taken from a loss that is not finite.
        """
        self.set_rate(rate)
        loss = self._backward(batch)
        if not math.isfinite(loss):
            return math.inf
        if isinstance(self.optimizer, SAM):
            self.optimizer.step(lambda: self._again(batch))
        else:
            self.optimizer.step()
        return loss

    def train(self, batches: Iterator[Batch], rates: list[float]) -> list[float]:
        """Steps at these learning rates, and the loss before each; cut where training has diverged, by an infinity."""
        losses: list[float] = []
        for rate in rates:
            losses.append(self.step(next(batches), rate))
            if not losses[-1] < losses[0] + BLOWN_UP * max(abs(losses[0]), 1e-12):
                losses[-1] = math.inf
                break
        return losses

    def _backward(self, batch: Batch) -> float:
        self.optimizer.zero_grad()
        loss = evaluated(lambda: self.loss_fn(self.model, batch))
        if not bool(torch.isfinite(loss)):
            return math.inf
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        return float(loss.detach())

    def _again(self, batch: Batch) -> Tensor:
        return torch.as_tensor(self._backward(batch))


def _copied(
    optimizer: torch.optim.Optimizer, memo: dict[int, Any], parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer on the copied parameters, without its hooks and whatever schedulers have put around its step."""
    fresh: torch.optim.Optimizer = object.__new__(type(optimizer))
    kept = {name: value for name, value in vars(optimizer).items() if name != "step" and "hooks" not in name}
    try:
        fresh.__setstate__(copy.deepcopy(kept, memo))
    except Exception as error:
        raise InputError(
            f"the optimizer {type(optimizer).__name__} cannot be copied ({type(error).__name__}: {error})",
            hint="a function that makes it of a list of parameters, in its place",
        ) from error
    held = {id(p) for group in fresh.param_groups for p in group["params"]}
    if not held & {id(p) for p in parameters}:
        raise InputError(
            f"the optimizer {type(optimizer).__name__} holds no parameter of the model",
            hint="the model's own optimizer",
        )
    return fresh
