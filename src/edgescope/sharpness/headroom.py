"""Headroom: how far along its last step a run could have gone before the loss rises."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import InputError
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.objective.samples import sample_losses
from edgescope.options import checked, optional, real
from edgescope.sharpness.rise import Rise, first_rise
from edgescope.sharpness.smoothness import ROUNDINGS, loss_rounding

UPHILL = "uphill on the measured data: the step has a positive slope"


@runtime_checkable
class Descended(Protocol):
    """What headroom needs of an objective."""

    def loss(self, w: Float[Tensor, " P"]) -> Tensor: ...

    def gradient(self, w: Float[Tensor, " P"]) -> Float[Tensor, " P"]: ...


@in_notebooks
@dataclass(frozen=True)
class Headroom:
    """The multiple s* of a step at which the loss first exceeds the loss where the step began.

    ``value`` is s*: at 1 the step is at the edge, at 2 it could be twice as long, below 1 it has raised the loss. It is
    infinite where the loss has not risen up to the longest step tried, and NaN where there is none, as ``note`` says.
    The loss does not exceed that of the start at ``low``, and does at ``high``. ``error`` is the larger distance of the
    value to these, together with the estimated bound of rounding and the standard error of sampling (``sampling``, None
    unless asked for).

    ``used`` is 1 + (loss at the end - loss at the start)/descent, 1/s* on a quadratic, with its rounding in
    ``used_error``; NaN where that exceeds the value. ``descent`` is -g·step, the loss change to first order, and
    ``slope`` the derivative of the loss by s at s*. ``losses`` are all pairs (s, loss) that were evaluated or given,
    ``mode`` is that of the objective.
    """

    value: float
    low: float
    high: float
    error: float
    used: float
    used_error: float
    descent: float
    slope: float
    sampling: float | None
    losses: tuple[tuple[float, float], ...]
    cost: Cost
    mode: str | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """1/s*, how much of the headroom the step has used: 1 at the edge, 0 where the loss does not rise."""
        return 1 / self.value

    @property
    def ratio_error(self) -> float:
        """The error of :attr:`ratio`; where the loss does not rise, that of the longest step tried."""
        return 1 / self.low if math.isinf(self.value) else self.error / self.value**2


@checked(
    start=optional(real(above=0)),
    population=optional(real(least=1)),
    tol=real(above=0, below=1),
    most=real(above=1),
)
@in_plain_arithmetic
def headroom(
    objective: Descended,
    w: Float[Tensor, " P"],
    step: Float[Tensor, " P"],
    *,
    loss_w: Tensor | float | None = None,
    gradient_w: Float[Tensor, " P"] | None = None,
    loss_next: Tensor | float | None = None,
    start: float | None = None,
    population: float | None = None,
    tol: float = 1 / 16,
    most: float = 64.0,
) -> Headroom:
    """The first s > 0 at which the loss at ``w + s step`` exceeds that at ``w``, from losses alone.

    At the edge of stability a step of any optimizer overshoots to the same loss (d = -2w on the mode that alternates),
    whatever its momentum, preconditioner or weight decay, so that s* is 1 there; s* times the learning rate is the
    critical learning rate of this step. On a quadratic s* = -2 g·d / d·Hd. On a plateau of the training loss it is near
    1 by necessity, since the loss changes add up to nothing; with mini-batches that holds of all data, and only the
    headroom on the batch of the step tells how far it is from the edge.

    The search begins at the root of the parabola through the loss and slope at ``w`` and the loss at ``w + step``, and
    goes on by regula falsi on the mean slope from ``w``, halving where that is slow, until low and high differ by
    ``tol`` of high. ``start`` is where to look first instead where that parabola says little: no curvature, or a root
    far from the step, such as the headroom of the step before. A loss that is not finite counts as a rise. It is the
    first s as far as the points tried tell: a loss that rises and falls again between two of them is not seen. Steps
    up to ``most`` times as long are tried.

    ``population``: the data are a random sample, drawn without replacement, of so many (``math.inf`` is refused; give a
    large number); ``sampling`` is then the standard error of s* as an estimate for all, from the changes of the single
    samples' losses, for two passes over the data more. Without it, the data are all there are.

    There is no value, and the note says why, where the step goes uphill (its slope at ``w`` is not negative), and where
    rounding of the loss could move s* by more than ``tol`` of it: near a stationary point, however long the step.

    Cost: one gradient, which leaves the loss at ``w`` known, and 2 to 4 losses, less whatever of ``loss_w``,
    ``gradient_w`` and ``loss_next``, at ``w + step``, is given. Raises :class:`InputError` for vectors that do not fit,
    a step of length zero, and a loss, gradient or step at ``w`` that is not finite. Sources: Kalra et al. 2026, arXiv
    2601.16979 (critical learning rate by line search); Lee and Lee, "The road taken" (``used``).
    """
    if w.ndim != 1 or w.shape != step.shape:
        raise InputError(
            f"a step of shape {tuple(step.shape)} from a point of shape {tuple(w.shape)}",
            expected="two flat vectors alike",
        )
    if population is not None and (not isinstance(objective, Objective) or population < objective.samples):
        samples = getattr(objective, "samples", None)
        raise InputError(
            f"population={population:g}",
            expected="an Objective, and at least its number of samples" + ("" if samples is None else f", {samples}"),
        )
    place, step = w.double(), step.double()
    length = float(step.norm())
    if not math.isfinite(length) or not math.isfinite(float(place.sum())):
        raise InputError("a step or a point that is not finite (NaN or infinity)")
    if length == 0:
        raise InputError("the headroom of a step of length zero", expected="a step that moves")
    spent = objective.spent if isinstance(objective, Objective) else None
    cost = Cost(losses=int(loss_w is None), gradients=int(gradient_w is None))
    gradient = (objective.gradient(w) if gradient_w is None else gradient_w).double()
    before = _number(objective.loss(w) if loss_w is None else loss_w)
    slope = float(gradient @ step)
    if not (math.isfinite(before) and math.isfinite(slope)):
        raise InputError("the loss or its gradient where the step begins is not finite (NaN or infinity)")
    eps = torch.finfo(w.dtype).eps
    none = Headroom(*(math.nan,) * 6, -slope, math.nan, None, ((0.0, before),), cost, getattr(objective, "mode", None))
    if slope >= 0:
        return replace(none, note=UPHILL)
    if -slope <= ROUNDINGS * eps * float(gradient.norm()) * length:
        return replace(none, note=_too_coarse("the slope of the step", w.dtype))

    def loss_at(s: float) -> float:
        return _number(objective.loss((place + s * step).to(w.dtype)))

    moved = eps * float((gradient * place).norm())  # what rounding of the parameters makes of a loss, but for the ends
    noise = loss_rounding(w.dtype, before, before)
    known = None if loss_next is None else _number(loss_next)
    found = first_rise(loss_at, before, slope, noise + moved, known, start=start, tol=tol, most=most)
    used, used_error = _used(before, found.losses.get(1.0, math.nan), -slope, w.dtype)
    losses = tuple(sorted({0.0: before, **found.losses}.items()))
    evaluated = len(found.losses) - int(loss_next is not None and 1.0 in found.losses)
    cost += Cost(losses=evaluated)
    if isinstance(objective, Objective) and spent is not None:
        cost = objective.spent - spent  # which counts no loss that came with a gradient
    result = replace(none, used=used, used_error=used_error, losses=losses, cost=cost)
    if math.isinf(found.high):
        if noise + moved > tol * -slope * found.low:
            return replace(result, note=_too_coarse("the change of the loss along the step", w.dtype))
        note = f"the loss does not rise up to {most:g} times the step"
        return replace(result, value=math.inf, low=found.low, high=math.inf, error=math.inf, note=note)
    lost = (loss_rounding(w.dtype, before, before) + moved) / found.slope if found.slope > 0 else math.inf
    if lost > tol * found.root:
        return replace(result, note=_too_coarse("the change of the loss along the step", w.dtype))
    bracket = max(found.root - found.low, found.high - found.root)
    sampling = None
    if population is not None:
        assert isinstance(objective, Objective)
        sampling = _sampling(objective, w, (place + found.root * step).to(w.dtype), found, population)
        result = replace(result, cost=result.cost + Cost(losses=2))
    return replace(
        result,
        value=found.root,
        low=found.low,
        high=found.high,
        error=math.hypot(bracket, lost, sampling or 0.0),
        slope=found.slope,
        sampling=sampling,
        note=found.note,
    )


def _used(before: float, after: float, descent: float, dtype: torch.dtype) -> tuple[float, float]:
    """1 + change/descent and its rounding; NaN where the end was not evaluated or rounding exceeds the value."""
    error = loss_rounding(dtype, before, after) / descent
    value = 1 + (after - before) / descent
    return (value, error) if math.isfinite(value) and error <= max(abs(value), 1.0) else (math.nan, math.nan)


def _sampling(
    objective: Objective, w: Float[Tensor, " P"], root: Float[Tensor, " P"], found: Rise, population: float
) -> float:
    """The standard error of the root over draws of the samples: of the mean change there, over its slope.

    The samples are the same at both ends, so that what they differ by at the start drops out.
    """
    change = sample_losses(objective, root) - sample_losses(objective, w)
    n = len(change)
    if n < 2:
        raise InputError("the sampling error of a single sample", expected="at least 2 samples")
    left = max(0.0, 1 - n / population)
    return float(change.std()) * math.sqrt(left / n) / found.slope


def _too_coarse(what: str, dtype: torch.dtype) -> str:
    kind = str(dtype).removeprefix("torch.")
    more = "" if dtype == torch.float64 else "; try dtype=torch.float64"
    return f"{what} is lost in the rounding of {kind}{more}"


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)
