"""The hypothesis that a multiplier on the sharpness gives the averaged trajectory in Linf, as in the Euclidean norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.objective import Objective

DISTANCE = 1e-3
"""Of second differences of gradients, relative to the length of the direction."""

BISECTIONS = 40


class LinfMultiplierFlow:
    """w' = -η D(∇L + c²∇(s'Hs)/2) with D(g) = |g|₁ sign g, and s'Hs held at most at 2/η by the smallest such c².

    s is a sign vector, followed along the flow by flips: s ← sign(Hs), as long as s'Hs grows. ``substeps`` Euler steps
    a unit of time, each of some 5 gradients and 2 products. What it predicts is compared with the averaged trajectory;
    nothing else in the package takes it for true.
    """

    def __init__(
        self, objective: Objective, lr: float, start: Float[Tensor, " P"], swing: Float[Tensor, " P"], substeps: int
    ) -> None:
        self.objective, self.lr, self.substeps = objective, lr, substeps
        self._w = start.clone()
        self._s = _signs(swing)
        self.c_square = 0.0

    @property
    def weights(self) -> Float[Tensor, " P"]:
        """A copy of w."""
        return self._w.clone()

    @property
    def sharpness(self) -> float:
        """s'Hs at w."""
        return float(self._s @ self.objective.hvp(self._s, self._w))

    def step(self) -> float:
        """One unit of time; returns the predicted loss L + c² s'Hs/2."""
        dt = 1 / self.substeps
        for _ in range(self.substeps):
            self._follow_signs()
            gradient = self.objective.gradient(self._w)
            value, growth = self._curvature(gradient)
            room = 2 / self.lr - value

            def left(c_square: float, g: Tensor = gradient, J: Tensor = growth, room: float = room) -> float:
                """How far below 2/η an Euler step would leave s'Hs."""
                return room + dt * self.lr * float(J @ _step(g + c_square / 2 * J))

            self.c_square = _smallest(left)
            self._w = self._w - dt * self.lr * _step(gradient + self.c_square / 2 * growth)
        return float(self.objective.loss(self._w)) + self.c_square / 2 * self.sharpness

    def state(self) -> dict[str, Tensor]:
        """What :meth:`load_state` continues from."""
        return {"weights": self.weights, "signs": self._s.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a result of :meth:`state`."""
        self._w, self._s = state["weights"].clone(), state["signs"].clone()

    def _follow_signs(self) -> None:
        product = self.objective.hvp(self._s, self._w)
        value = float(self._s @ product)
        for _ in range(3):
            flipped = _signs(product)
            after = self.objective.hvp(flipped, self._w)
            if not float(flipped @ after) > value:
                return
            self._s, product, value = flipped, after, float(flipped @ after)

    def _curvature(self, gradient: Float[Tensor, " P"]) -> tuple[float, Float[Tensor, " P"]]:
        """s'Hs and its gradient in w, from differences of gradients along s."""
        step = DISTANCE / self._s.norm() * self._s
        ahead, behind = (self.objective.gradient(self._w + sign * step) for sign in (1, -1))
        scale = self._s.norm() / DISTANCE
        value = float(self._s @ (ahead - behind)) * float(scale) / 2
        return value, (ahead + behind - 2 * gradient) * scale**2


def _signs(vector: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    return torch.where(vector < 0, -1.0, 1.0).to(vector.dtype)


def _step(gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    return gradient.abs().sum() * gradient.sign()


def _smallest(left: Callable[[float], float]) -> float:
    """The smallest c² ≥ 0 at which ``left``, which grows with c², is not negative; the last try if there is none."""
    if left(0.0) >= 0:
        return 0.0
    high = 1e-12
    for _ in range(100):
        if left(high) >= 0:
            break
        high *= 2
    low = 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if left(middle) >= 0 else (middle, high)
    return high
