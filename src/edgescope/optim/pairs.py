"""One optimizer by name, or two, the first for the matrices of a model and the second for the rest: ``muon+adamw``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgescope.errors import InputError
from edgescope.optim.named import OPTIMIZERS, NamedGradientFlow, NamedOptimizer, Sam
from edgescope.options import check_float

BETWEEN = re.compile(r"\+(?=\s*[a-z])")
"""A plus before a name, which that of a number such as 1e+3 is not."""

RATE = re.compile(r"(?<=[:,])\s*lr\s*=([^,]*)(,|$)")


@dataclass(frozen=True)
class OptimizerPlan:
    """One or two named optimizers; ``rates`` has their own learning rates, None where that of the run counts."""

    named: tuple[NamedOptimizer, ...]
    rates: tuple[float | None, ...]

    @property
    def gradients_per_step(self) -> int:
        """The gradients that a step takes."""
        return max(one.gradients_per_step for one in self.named)

    def build(self, parameters: Iterable[Tensor], lr: float) -> list[torch.optim.Optimizer]:
        """The live optimizers. Of two the first has all parameters of two dimensions, the second all others.

        Raises :class:`InputError` where one of two would have no parameter, and as :meth:`NamedOptimizer.build` does.
        """
        everything = list(parameters)
        if len(self.named) == 1:
            return [self.named[0].build(everything, lr)]
        shares = [p for p in everything if p.ndim == 2], [p for p in everything if p.ndim != 2]
        for share, named, what, other in zip(
            shares, self.named, ("no matrix", "nothing but matrices"), reversed(self.named), strict=True
        ):
            if not share:
                raise InputError(
                    f"{named.owner} has nothing to train, since the model has {what}",
                    expected="matrices for the first optimizer and other parameters for the second",
                    hint=f"{other.owner} alone",
                )
        return [
            named.build(share, lr if own is None else own)
            for named, share, own in zip(self.named, shares, self.rates, strict=True)
        ]


def one_optimizer(spec: str) -> NamedOptimizer:
    """The optimizer that ``spec`` names, where two cannot be used; an :class:`InputError` says so of a pair."""
    if isinstance(spec, str) and len(BETWEEN.split(spec)) > 1:
        raise InputError(
            f"a pair of optimizers, '{spec}'",
            expected="one optimizer",
            hint="'edgescope sweep' or 'edgescope train', which take pairs",
        )
    return OPTIMIZERS.build(spec)


def plan_optimizers(spec: str) -> OptimizerPlan:
    """The optimizers that ``spec`` names: one, ``sgd:momentum=0.9``, or two joined by +, ``muon+adamw:lr=0.001``.

    Of two, each may have a learning rate of its own as the option ``lr``. Raises :class:`InputError` for a name or an
    option that cannot be used, for more than two, and for a pair with gradient flow or SAM, which steps on gradients
    of its own.
    """
    pieces = BETWEEN.split(spec) if isinstance(spec, str) else [spec]
    if len(pieces) == 1:
        return OptimizerPlan((OPTIMIZERS.build(spec),), (None,))
    if len(pieces) > 2:
        raise InputError(
            f"{len(pieces)} optimizers in '{spec}'",
            expected="one, or two: the first for matrices, the second for the rest",
            hint="muon+adamw",
        )
    rates, named = [], []
    for piece in pieces:
        rates.append(_own_rate(piece))
        named.append(OPTIMIZERS.build(RATE.sub("", piece).rstrip(":,")))
        if isinstance(named[-1], NamedGradientFlow | Sam):
            raise InputError(
                f"'{piece.strip()}' beside another optimizer", expected="optimizers that take one gradient a step"
            )
    return OptimizerPlan(tuple(named), tuple(rates))


def _own_rate(piece: str) -> float | None:
    found = RATE.search(piece)
    if found is None:
        return None
    owner = f"optimizer '{piece.partition(':')[0].strip()}'"
    try:
        value: object = float(found[1])
    except ValueError:
        value = found[1].strip()
    return check_float(owner, "lr", value, above=0)
