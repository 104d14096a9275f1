"""Optimizers by name, for runs: ``OPTIMIZERS.build("sgd:momentum=0.9").build(parameters, lr=0.1)``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.geometry import as_geometry
from edgescope.optim.gradient_flow import FLOW_OPTIONS, GradientFlow
from edgescope.optim.hyperparameters import RANGES
from edgescope.optim.langevin import Langevin
from edgescope.optim.lion import Lion
from edgescope.optim.sam import SAM
from edgescope.optim.scalar_rmsprop import ScalarRMSProp
from edgescope.optim.steepest_descent import SteepestDescent
from edgescope.options import Check, check_fields, check_float, integer, real, text
from edgescope.registry import Registry


@dataclass(frozen=True)
class NamedOptimizer:
    """The options of an optimizer, without its learning rate; the fields are torch's own keyword arguments."""

    kind: ClassVar[type[torch.optim.Optimizer]]
    gradients_per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._check()

    def build(self, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
        """The live optimizer; InputError for a learning rate that is not positive and finite, or unusable options."""
        return self.make(list(parameters), lr=check_float(self.owner, "lr", lr, above=0))

    def make(self, parameters: list[Tensor] | list[dict[str, Any]], **more: Any) -> torch.optim.Optimizer:
        """The optimizer of these options; what torch refuses becomes an :class:`InputError`."""
        try:
            return self.kind(parameters, **more, **dataclasses.asdict(self))
        except ValueError as error:
            raise InputError(f"{self.kind.__name__} cannot be made: {error}", hint=self.instead) from error

    instead: ClassVar[str | None] = None
    """What to try where an optimizer does not take the parameters of a model."""

    @property
    def owner(self) -> str:
        """What the options belong to, for error messages."""
        return f"optimizer {self.kind.__name__}"

    def _check(self, **checks: Check) -> None:
        """Check all options: those that several optimizers have by the ranges that they share, others by ``checks``."""
        shared = {field.name: RANGES[field.name] for field in dataclasses.fields(self) if field.name in RANGES}
        check_fields(self, self.owner, **shared | checks)


@dataclass(frozen=True)
class SGD(NamedOptimizer):
    """Gradient descent; Polyak with ``momentum``, Nesterov with ``nesterov=true`` as well."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.SGD
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    dampening: float = 0.0

    def __post_init__(self) -> None:
        self._check()
        if self.nesterov and (not self.momentum or self.dampening):
            raise InputError(
                f"{self.owner} with nesterov, momentum={self.momentum:g} and dampening={self.dampening:g}",
                expected="momentum above 0 and no dampening",
                hint="momentum=0.9",
            )
        if self.dampening and not self.momentum:
            raise InputError(
                f"{self.owner} with dampening={self.dampening:g} and no momentum",
                expected="momentum above 0, which is what it dampens",
                hint="momentum=0.9",
            )


@dataclass(frozen=True)
class RMSprop(NamedOptimizer):
    """RMSProp; ``alpha`` is the decay of the mean of squared gradients (beta2 elsewhere)."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.RMSprop
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0


@dataclass(frozen=True)
class NamedScalarRMSProp(NamedOptimizer):
    """RMSProp with one second moment for all parameters, the mean of squared norms of the gradient."""

    kind: ClassVar[type[torch.optim.Optimizer]] = ScalarRMSProp
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adam(NamedOptimizer):
    """Adam, its weight decay coupled (part of the gradient); ``betas=0.9x0.999`` in text form."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adam
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.AdamW
    weight_decay: float = 0.01


@dataclass(frozen=True)
class NAdam(NamedOptimizer):
    """Adam with Nesterov momentum, whose factor grows over the first steps."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.NAdam
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        self._check(momentum_decay=real(least=0))


@dataclass(frozen=True)
class RAdam(NamedOptimizer):
    """Adam whose first steps are rectified: shorter while the second moments are uncertain."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.RAdam
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False


@dataclass(frozen=True)
class Adamax(NamedOptimizer):
    """Adam with the largest past gradient of each entry in place of the second moment."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adamax
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Adagrad(NamedOptimizer):
    """Gradient descent divided by the root of the sum of all squared gradients."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adagrad
    lr_decay: float = 0.0
    eps: float = 1e-10
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0

    def __post_init__(self) -> None:
        self._check(lr_decay=real(least=0), initial_accumulator_value=real(least=0))


@dataclass(frozen=True)
class Adafactor(NamedOptimizer):
    """Adam without momentum, whose second moments are kept for rows and columns of matrices."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adafactor
    d: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._check(d=real(least=1))


@dataclass(frozen=True)
class Muon(NamedOptimizer):
    """Muon; matrices only, so the model may have no biases or other parameters that are not matrices."""

    kind: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Muon
    instead: ClassVar[str | None] = "the pair muon+adamw, which 'edgescope sweep' and 'edgescope train' take"
    momentum: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.1
    ns_steps: int = 5
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None

    def __post_init__(self) -> None:
        self._check(ns_steps=integer(1, 99))


@dataclass(frozen=True)
class NamedLion(NamedOptimizer):
    """Lion, every entry stepping by the learning rate along the sign of an average of gradients."""

    kind: ClassVar[type[torch.optim.Optimizer]] = Lion
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Steepest(NamedOptimizer):
    """Steepest descent in a geometry, such as linf or ``geometry=mixed:matrices=spectral;vectors=linf``.

    Options of the geometry are joined by ;.
    Sign gradient descent is ``geometry=linf,normalized=true``.
    """

    kind: ClassVar[type[torch.optim.Optimizer]] = SteepestDescent
    geometry: str = "euclidean"
    normalized: bool = False
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._check(geometry=text(empty=False))
        object.__setattr__(self, "geometry", self.geometry.replace(";", ","))
        as_geometry(self.geometry)


@dataclass(frozen=True)
class NamedLangevin(NamedOptimizer):
    """Gradient descent with isotropic noise of a ``temperature``, which lets it escape from metastable states."""

    kind: ClassVar[type[torch.optim.Optimizer]] = Langevin
    temperature: float = 1e-4
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Sam(NamedOptimizer):
    """Sharpness-aware minimization with a base optimizer, such as ``base=sgd:momentum=0.9;nesterov=true``."""

    kind: ClassVar[type[torch.optim.Optimizer]] = SAM
    gradients_per_step: ClassVar[int] = 2
    rho: float = 0.05
    adaptive: bool = False
    base: str = "sgd"

    def __post_init__(self) -> None:
        self._check(base=text(empty=False))
        object.__setattr__(self, "base", self.base.replace(";", ","))
        if issubclass(OPTIMIZERS[self.base.partition(":")[0].strip()], NamedGradientFlow | Sam):
            raise InputError(f"SAM around '{self.base}'", expected="an optimizer that takes one gradient a step")
        OPTIMIZERS.build(self.base)

    def make(self, parameters: list[Tensor] | list[dict[str, Any]], **more: Any) -> torch.optim.Optimizer:
        """SAM, its base made of the same parameters and learning rate."""
        return SAM(parameters, OPTIMIZERS.build(self.base).make, rho=self.rho, adaptive=self.adaptive, **more)


@dataclass(frozen=True)
class NamedGradientFlow(NamedOptimizer):
    """Gradient flow, integrated; the learning rate has no meaning here and is ignored, ``max_step`` is a time."""

    kind: ClassVar[type[torch.optim.Optimizer]] = GradientFlow
    gradients_per_step: ClassVar[int] = 3
    max_step: float = 1.0
    rtol: float = 1e-3
    atol: float = 1e-6
    safety: float = 1.0

    def __post_init__(self) -> None:
        self._check(**FLOW_OPTIONS)

    def build(self, parameters: Iterable[Tensor], lr: float | None = None) -> torch.optim.Optimizer:
        """The integrator; ``lr`` is ignored. Its ``sharpness`` may be set later, to bound the step by safety/S."""
        return self.make(list(parameters))


OPTIMIZERS: Registry[NamedOptimizer] = Registry("optimizer")
OPTIMIZERS.add("sgd", SGD)
OPTIMIZERS.add("rmsprop", RMSprop)
OPTIMIZERS.add("scalar-rmsprop", NamedScalarRMSProp)
OPTIMIZERS.add("adam", Adam)
OPTIMIZERS.add("adamw", AdamW)
OPTIMIZERS.add("nadam", NAdam)
OPTIMIZERS.add("radam", RAdam)
OPTIMIZERS.add("adamax", Adamax)
OPTIMIZERS.add("adagrad", Adagrad)
OPTIMIZERS.add("adafactor", Adafactor)
OPTIMIZERS.add("muon", Muon)
OPTIMIZERS.add("lion", NamedLion)
OPTIMIZERS.add("steepest", Steepest)
OPTIMIZERS.add("langevin", NamedLangevin)
OPTIMIZERS.add("sam", Sam)
OPTIMIZERS.add("gradient-flow", NamedGradientFlow)
