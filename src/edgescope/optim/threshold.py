"""The stability threshold of an optimizer: its value, its formula, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from edgescope.errors import InputError, NotKnownError
from edgescope.geometry.geometry import Geometry
from edgescope.notebooks import in_notebooks

JOINT_FORMULA = "1 in the metric P(2-ηλ)/(ηΓ)"
JOINT = (
    "eigenvalue -1 of the joint update, the first to leave the unit circle where every momentum filter is a positive"
    " mixture of exponential averages"
)


@in_notebooks
@dataclass(frozen=True)
class Threshold:
    """The value of the effective sharpness at which an optimizer with these hyper-parameters becomes unstable.

    Where ``geometry`` is None, ``value`` is compared with the largest eigenvalue of the *effective* Hessian, which is
    the Hessian (plus what coupled weight decay adds to it) in the optimizer's own ``metric`` (None: the plain Hessian).
    Otherwise it is compared with the generalized sharpness of the Hessian in that geometry, and with the directional
    smoothness of a step in it; for a ``normalized`` optimizer with these over the dual norm of the gradient.
    ``formula`` names the value in symbols, ``source`` says where it comes from. At learning rate 0 the value is
    infinite. ``caveat``, where it is not empty, says why crossing the value need not mean instability. ``radius`` is
    that of a perturbation along the gradient (SAM), which is in the effective Hessian; NaN where it is not one number.
    """

    value: float
    formula: str
    source: str
    geometry: Geometry | None = None
    normalized: bool = False
    caveat: str = ""
    radius: float = 0.0

    def at(self, gradient: Float[Tensor, " P"]) -> float:
        """The threshold of the sharpness itself where the gradient is this.

        For a normalized one value * ||g||_*. For SAM the h with h (1 + radius h/||g||) = value, of the largest
        eigenvalue of the Hessian; :class:`NotKnownError` where that does not decide, since there is a preconditioner,
        decay, or more than one radius.
        """
        if math.isnan(self.radius):
            raise NotKnownError(
                "the threshold of SAM is not one of the largest eigenvalue of the Hessian here",
                hint="rule.effective(operator, gradient=...) compared with the value",
            )
        if self.radius:
            length = float(gradient.norm())
            if length == 0 or math.isinf(self.value):
                return self.value
            return 2 * self.value / (1 + math.sqrt(1 + 4 * self.radius * self.value / length))
        if not self.normalized:
            return self.value
        assert self.geometry is not None
        return self.value * float(self.geometry.dual_norm(gradient))

    def scaled(self, gradient_scale: float) -> Threshold:
        """The threshold where training multiplies its gradients by ``gradient_scale`` (clipping, loss scaling).

        Steps then are those on the Hessian ``gradient_scale`` * H, so the value is divided by it, and is to be compared
        with ``rule.effective(operator, gradient_scale)``. The step of a normalized optimizer does not depend on the
        length of its gradient: its threshold stays. Raises :class:`InputError` for a scale that is not positive and
        finite.
        """
        check_gradient_scale(gradient_scale)
        if self.normalized or gradient_scale == 1:
            return self
        formula = f"{self.formula}, divided by the scale of the gradient, {gradient_scale:.4g}"
        return replace(self, value=self.value / gradient_scale, formula=formula)


def joint_threshold(sources: Iterable[str], caveat: str = "") -> Threshold:
    """That of blocks of parameters with momenta or learning rates of their own, in the metric that absorbs them: 1."""
    formula = JOINT_FORMULA + (f"; {caveat}" if caveat else "")
    return Threshold(1.0, formula, "; ".join(dict.fromkeys([JOINT, *sources])), caveat=caveat)


def check_gradient_scale(gradient_scale: float) -> None:
    """InputError for a factor of the gradients that is not positive and finite."""
    if not (math.isfinite(gradient_scale) and gradient_scale > 0):
        raise InputError(f"a gradient scale of {gradient_scale:g}", expected="a positive finite number")
