"""Optimizers by name, for runs: ``OPTIMIZERS.build("sgd:momentum=0.9").build(parameters, lr=0.1)``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry import as_geometry
from edgescope.optim.gradient_flow import GradientFlow
from edgescope.optim.langevin import Langevin
from edgescope.optim.sam import SAM
from edgescope.optim.steepest_descent import SteepestDescent
from edgescope.registry import Registry


@dataclass(frozen=True)
class NamedOptimizer:
    """The options of an optimizer, without its learning rate; the fields are torch's own keyword arguments."""

    kind: ClassVar[type[torch.optim.Optimizer]]

    def build(self, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
        """The live optimizer; InputError for a learning rate that is not positive and finite, or unusable options."""
        if not (math.isfinite(lr) and lr > 0):
            raise InputError(f"a learning rate of {lr:g}", expected="a positive finite number")
        return self.make(list(parameters), lr=lr)

    def make(self, parameters: list[Tensor], **more: Any) -> torch.optim.Optimizer:
        """The optimizer of these options; what torch refuses becomes an :class:`InputError`."""
        try:
            return self.kind(parameters, **more, **dataclasses.asdict(self))
        except ValueError as error:
            raise InputError(f"{self.kind.__name__} cannot be made: {error}") from error


@dataclass(frozen=True)
class SGD(NamedOptimizer):
    """Gradient descent; Polyak with ``momentum``, Nesterov with ``nesterov=true`` beside it."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.SGD
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    dampening: float = 0.0


@dataclass(frozen=True)
class RMSprop(NamedOptimizer):
    """RMSProp; ``alpha`` is the memory of the squared gradients (beta2 elsewhere)."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.RMSprop
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam(NamedOptimizer):
    """Adam, its weight decay coupled (part of the gradient); ``betas=0.9x0.999`` in text form."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adam
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise InputError(f"Adam with betas={self.betas}", expected="two numbers", hint="betas=0.9x0.999")


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.AdamW
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Muon(NamedOptimizer):
    """Muon; matrices only, so the model may have no biases or other parameters that are not matrices."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Muon
    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.1
    ns_steps: int = 5
    adjust_lr_fn: str | None = None


@dataclass(frozen=True)
class Steepest(NamedOptimizer):
    """Descent in a geometry, such as linf or ``geometry=mixed:matrices=spectral;vectors=linf`` (options joined by ;).

    Sign descent is ``geometry=linf,normalized=true``.
    """

    kind: ClassVar[type[torch.optim.Optimizer]] = SteepestDescent
    geometry: str = "euclidean"
    normalized: bool = False
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "geometry", self.geometry.replace(";", ","))
        as_geometry(self.geometry)


@dataclass(frozen=True)
class NamedLangevin(NamedOptimizer):
    """Gradient descent with isotropic noise of a ``temperature``, which escapes from traps in time."""

    kind: ClassVar[type[torch.optim.Optimizer]] = Langevin
    temperature: float = 1e-4
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"Langevin with temperature={self.temperature:g}", expected="a positive finite number")


@dataclass(frozen=True)
class Sam(NamedOptimizer):
    """Sharpness-aware minimization around ``base=sgd:momentum=0.9;nesterov=true`` (options of the base joined by ;)."""

    kind: ClassVar[type[torch.optim.Optimizer]] = SAM
    rho: float = 0.05
    adaptive: bool = False
    base: str = "sgd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", self.base.replace(";", ","))
        if not (math.isfinite(self.rho) and self.rho > 0):
            raise InputError(f"SAM with rho={self.rho:g}", expected="a positive finite number")
        if isinstance(OPTIMIZERS.build(self.base), Flow | Sam):
            raise InputError(f"SAM around '{self.base}'", expected="an optimizer that takes one gradient a step")

    def make(self, parameters: list[Tensor], **more: Any) -> torch.optim.Optimizer:
        """SAM, its base made of the same parameters and learning rate."""
        return SAM(parameters, OPTIMIZERS.build(self.base).make, rho=self.rho, adaptive=self.adaptive, **more)


@dataclass(frozen=True)
class Flow(NamedOptimizer):
    """Gradient flow, integrated; the learning rate has no meaning here and is ignored, ``max_step`` is a time."""

    kind: ClassVar[type[torch.optim.Optimizer]] = GradientFlow
    max_step: float = 1.0
    rtol: float = 1e-3
    atol: float = 1e-6
    safety: float = 1.0

    def build(self, parameters: Iterable[Tensor], lr: float | None = None) -> torch.optim.Optimizer:
        """The integrator; ``lr`` is ignored. Its ``sharpness`` may be set later, to bound the step by safety/S."""
        return self.make(list(parameters))


OPTIMIZERS: Registry[NamedOptimizer] = Registry("optimizer")
OPTIMIZERS.add("sgd", SGD)
OPTIMIZERS.add("rmsprop", RMSprop)
OPTIMIZERS.add("adam", Adam)
OPTIMIZERS.add("adamw", AdamW)
OPTIMIZERS.add("muon", Muon)
OPTIMIZERS.add("steepest", Steepest)
OPTIMIZERS.add("langevin", NamedLangevin)
OPTIMIZERS.add("sam", Sam)
OPTIMIZERS.add("gradient-flow", Flow)
