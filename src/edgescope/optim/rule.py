"""An optimizer as an update rule: what it does to parameters and state, its preconditioner, its stability threshold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.linalg.metric import Metric


@dataclass(frozen=True)
class Threshold:
    """The value of the effective sharpness at which an optimizer with these hyper-parameters turns unstable.

    ``value`` is compared with the largest eigenvalue of the *effective* Hessian, which is the Hessian in the
    optimizer's own ``metric`` (None: the plain Hessian). ``formula`` names it in symbols, ``source`` says where it
    comes from.
    """

    value: float
    formula: str
    source: str


class UpdateRule(ABC):
    """The rule of a live ``torch.optim`` object, read from its ``param_groups`` and ``state``.

    All vectors are flat, of length P, in the order of ``parameters``, the list of tensors the rule was made for
    (an objective's trainable tensors). ``state`` holds the optimizer's state as flat vectors by name.
    """

    kinds: ClassVar[tuple[type[torch.optim.Optimizer], ...]]

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        self.optimizer = optimizer
        self.tensors = parameters

    @abstractmethod
    def state(self) -> dict[str, Float[Tensor, " P"]]:
        """The optimizer's state now, flat; zeros where the optimizer has not stepped yet."""

    @abstractmethod
    def update(
        self, w: Float[Tensor, " P"], state: dict[str, Tensor], gradient: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], dict[str, Tensor]]:
        """Parameters and state after one step: pure, differentiable torch operations, nothing in place."""

    @abstractmethod
    def metric(self) -> Metric | None:
        """The preconditioner as a metric on parameter space; None where it is the identity."""

    @abstractmethod
    def threshold(self) -> Threshold:
        """The stability threshold for the effective Hessian; raises NotKnownError where none is known."""
