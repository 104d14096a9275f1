"""Gradient flow w' = -gradient, integrated with adaptive steps: gradient descent at small learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from edgescope.errors import EdgescopeError, InputError
from edgescope.options import Check, real

Closure = Callable[[], Any]
Slopes = list[Tensor]

# Bogacki and Shampine 1989: stages at 1/2 and 3/4, third-order result, and the difference to the embedded second order.
HALF, THREE_QUARTERS = (1 / 2,), (0.0, 3 / 4)
RESULT = (2 / 9, 1 / 3, 4 / 9)
DIFFERENCE = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)
STABLE = 2.5  # the pair is stable on the real axis for step * eigenvalue up to 2.51


FLOW_OPTIONS: dict[str, Check] = {
    "max_step": real(above=0),
    "rtol": real(above=0),  # a large one leaves steps to the bounds alone
    "atol": real(above=0),
    "safety": real(above=0, most=STABLE),
}


class GradientFlow(torch.optim.Optimizer):
    """Integrates w' = -g(w); one ``step(closure)`` is one accepted step of Bogacki and Shampine's 3(2) pair (1989).

    The closure zeroes gradients, computes the loss, calls ``backward`` and returns the loss, as for LBFGS, and must be
    a deterministic function of the parameters (full batch). ``step`` returns the loss before the step, a float.
    The gradient at the new point is the first stage of the next step, so a step costs 3 closures (one more at the
    start, and 3 for each rejected trial). After a step ``.grad`` holds the gradient at the new point.

    A step is at most ``max_step`` (in time; one unit is one unit of lr times steps of gradient descent), and at most
    ``safety / S`` where ``sharpness()`` gives the current sharpness S (None, zero or negative: no bound), as in Cohen
    et al. 2021, who take 1/S; above 2.5/S the method is unstable. Within that, it is chosen so that the root mean
    square of error / (atol + rtol |w|) over the parameters is at most 1.

    ``time``, ``last_step`` and ``evaluations`` (closures so far) are part of the ``state_dict``; a run that loads it
    continues bit for bit. Any number of tensors, one parameter group.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        max_step: float = 1.0,
        rtol: float = 1e-3,
        atol: float = 1e-6,
        sharpness: Callable[[], float | None] | None = None,
        safety: float = 1.0,
    ) -> None:
        options: dict[str, Any] = {"max_step": max_step, "rtol": rtol, "atol": atol, "safety": safety}
        for name, check in FLOW_OPTIONS.items():
            options[name] = check("optimizer GradientFlow", name, options[name])
        # What is not a tensor lives in the group: python floats there survive state_dict exactly.
        progress = {"time": 0.0, "last_step": 0.0, "next_step": options["max_step"], "evaluations": 0, "loss": math.nan}
        super().__init__(params, options | progress)
        if len(self.param_groups) != 1:
            raise InputError(f"gradient flow with {len(self.param_groups)} parameter groups", expected="one group")
        self.sharpness = sharpness
        self._versions: list[int] | None = None

    @property
    def time(self) -> float:
        """The time reached: the integral of the steps."""
        return float(self.param_groups[0]["time"])

    @property
    def last_step(self) -> float:
        """The size of the last accepted step, in time; 0 before the first."""
        return float(self.param_groups[0]["last_step"])

    @property
    def evaluations(self) -> int:
        """Losses and gradients evaluated so far."""
        return int(self.param_groups[0]["evaluations"])

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """One accepted step; returns the loss before it. Whatever fails, the parameters are left as they were.

        Raises :class:`InputError` without a closure or where loss or gradient are not finite at the start, and
        :class:`EdgescopeError` where no step, however small, meets the tolerance.
        """
        if closure is None:
            raise InputError(
                "gradient flow needs a closure", expected="step(closure) with a closure that returns the loss"
            )
        group = self.param_groups[0]
        tensors: list[Tensor] = group["params"]
        start = [p.clone() for p in tensors]
        try:
            first = self._first_slope(closure)
            loss = group["loss"]
            bound = self._bound(group)
            size = min(group["next_step"], bound)
            while True:
                slopes = [first]
                for weights in (HALF, THREE_QUARTERS, RESULT):
                    self._move(start, size, weights, slopes)
                    new_loss, slope = self._slope(closure)
                    slopes.append(slope)
                error = self._error(start, size, slopes) if math.isfinite(new_loss) else math.inf
                factor = 0.9 * error ** (-1 / 3) if 0 < error < math.inf else (5.0 if error == 0 else 0.2)
                if error <= 1:
                    break
                size *= min(0.9, max(0.2, factor))
                if size < 1e-12 * bound:
                    raise EdgescopeError(
                        "gradient flow found no step that meets its tolerance",
                        expected="a closure that is a smooth and deterministic function of the parameters",
                        hint="a larger rtol or atol, or the full batch without dropout",
                    )
        except BaseException:
            for p, before in zip(tensors, start, strict=True):
                p.copy_(before)
            raise
        for p, last in zip(tensors, slopes[-1], strict=True):
            self.state[p]["gradient"] = last
        group |= {"time": group["time"] + size, "last_step": size, "loss": new_loss}
        group["next_step"] = min(size * min(5.0, max(0.2, factor)), group["max_step"])
        self._versions = [p._version for p in tensors]
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a ``state_dict``; the parameters must be those it was saved with."""
        super().load_state_dict(state_dict)
        self._versions = None

    def _first_slope(self, closure: Closure) -> Slopes:
        """The gradient here: kept from the last step, unless somebody has changed the parameters since."""
        group = self.param_groups[0]
        tensors = group["params"]
        moved = self._versions is not None and self._versions != [p._version for p in tensors]
        if not moved and all("gradient" in self.state.get(p, {}) for p in tensors):
            return [self.state[p]["gradient"] for p in tensors]
        group["loss"], slope = self._slope(closure)
        if not (math.isfinite(group["loss"]) and all(bool(torch.isfinite(s).all()) for s in slope)):
            raise InputError("the loss or its gradient is not finite (NaN or infinity) where gradient flow starts")
        return slope

    def _slope(self, closure: Closure) -> tuple[float, Slopes]:
        group = self.param_groups[0]
        with torch.enable_grad():
            loss = closure()
        group["evaluations"] += 1
        loss = float(loss.detach() if isinstance(loss, Tensor) else loss)
        return loss, [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in group["params"]]

    def _move(self, start: Slopes, size: float, weights: tuple[float, ...], slopes: list[Slopes]) -> None:
        for i, (p, before) in enumerate(zip(self.param_groups[0]["params"], start, strict=True)):
            p.copy_(before - size * _combine(weights, slopes, i))

    def _error(self, start: Slopes, size: float, slopes: list[Slopes]) -> float:
        """Root mean square over the parameters of estimated error over tolerance; infinite where it is not a number."""
        group = self.param_groups[0]
        total, count = 0.0, 0
        for i, (p, before) in enumerate(zip(group["params"], start, strict=True)):
            scale = group["atol"] + group["rtol"] * torch.maximum(p.abs(), before.abs())
            total += float((size * _combine(DIFFERENCE, slopes, i) / scale).double().square().sum())
            count += p.numel()
        return math.sqrt(total / count) if math.isfinite(total) else math.inf

    def _bound(self, group: dict[str, Any]) -> float:
        with torch.enable_grad():
            sharpness = self.sharpness() if self.sharpness is not None else None
        if sharpness is None or sharpness <= 0:
            return float(group["max_step"])
        if not math.isfinite(sharpness):
            raise InputError(f"gradient flow was given a sharpness of {sharpness:g}", expected="a finite number")
        return float(min(group["max_step"], group["safety"] / sharpness))


def _combine(weights: tuple[float, ...], slopes: list[Slopes], i: int) -> Tensor:
    total = torch.zeros_like(slopes[0][i])
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            total = total + weight * slope[i]
    return total
