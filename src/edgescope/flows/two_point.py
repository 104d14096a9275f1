"""The flow of two points: the averaged trajectory of steepest descent in any norm past its threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.cost import Cost
from edgescope.errors import EdgescopeError, InputError
from edgescope.flows.step_map import StepMap, checked_weights
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.options import check_bool, checked, integer, real, type_of
from edgescope.short_errors import short_errors

Pair = tuple[Float[Tensor, " P"], Float[Tensor, " P"]]


@in_notebooks
@dataclass(frozen=True)
class TwoPointStep:
    """The two-point flow at ``time``, in steps of the optimizer since the flow began.

    ``predicted_loss`` is the mean of the losses at both ends w + δ and w - δ, the prediction for the time average of
    the optimizer's loss; ``loss`` is that at the centre w, None unless asked for. ``half_distance`` is ||δ||, and
    ``drift`` the distance that w has moved in this unit of time. ``opposed`` is the share of the entries whose
    gradients at the two ends have opposite signs, a mean over the substeps: in the norms Linf such an entry is locked,
    it moves only in the direction of the smaller gradient. The flow is deterministic but for its noise, so there are
    no standard errors; its error is that of the time step (see :class:`TwoPointFlow`).
    """

    time: float
    predicted_loss: float
    loss: float | None
    half_distance: float
    drift: float
    opposed: float
    cost: Cost


@short_errors
class TwoPointFlow:
    """Two points w + δ and w - δ that follow the average of an optimizer oscillating with period two, in any norm.

    For w' = w - η D(g(w)), where D is the gradient of half the squared dual norm (normalized: of the dual norm),

        dw/dt = -(η/2) [D(g(w+δ)) + D(g(w-δ))],    dδ/dt = -2δ + (η/2) [D(g(w+δ)) - D(g(w-δ))],

    by ``substeps`` Euler steps a unit of time, which is one step of the optimizer. One substep would be two runs of
    descent, one from each end. On a quadratic a stationary δ obeys 2δ = η D(Hδ), so that the norm's local sharpness
    along δ is 2/η. It needs neither eigenvectors nor third derivatives, and its state is twice as large as that of
    :class:`~edgescope.flows.CentralFlow`'s weights.

    Args:
        objective: the loss on all training data. The flow starts at the model's parameters unless ``start`` is given.
        optimizer: ``torch.optim.SGD`` without momentum, ``es.optim.SteepestDescent`` in any geometry, normalized or
            not, or another optimizer without memory. Its learning rates are read at every step; weight decay is part of
            the steps. Neither optimizer nor model are changed.
        substeps: Euler steps a unit of time. Results depend on it (in Linf, on a small network from its initialization,
            the distance from the run by a tenth between 4 and 16), so state it beside every figure.
        start: two successive iterates of a run, of which w is the mean and δ half the difference, such as
            :class:`~edgescope.flows.OscillationOnset` finds. By default w are the model's parameters and δ is 0.
        noise: the standard deviation of the length of a random vector that is added to δ in a unit of time (spread
            over the substeps), since δ would underflow below the threshold. Drawn from ``seed``.

    Cost: exactly two gradients a substep, and two losses a step (three with the centre's). ``time``, ``weights``,
    ``delta``. ``state()`` and ``load_state()`` resume bit for bit. Raises :class:`InputError` and
    :class:`NotKnownError` as :class:`~edgescope.flows.step_map.StepMap` does, and :class:`EdgescopeError` where the
    flow diverges, which leaves it as it was before the step.

    **Where it does not hold.** In Linf from the initialization, on a small network: after 400 steps it was little
    nearer to the run than the stable flow, and its predicted loss 40% too high (the stable flow's: too low). Block
    descent, which moves one tensor at a time, does not oscillate with period two while the tensors take turns, far past
    2/η, and may then diverge within some twenty steps: the flow goes on as if the turns went on.

    Source: this library's, for any norm. In the Euclidean norm small δ obey dδ/dt = (ηH - 2) δ: the length grows at the
    rate ηS - 2, and the direction is drawn to the top eigenvector. The abstracts of rod flow (Regis and Chewi, arXiv
    2602.01480) and edge flow (Marion, arXiv 2606.18080) describe flows alike; they were not compared with this one.
    """

    @checked(substeps=integer(1), noise=real(least=0))
    def __init__(
        self,
        objective: Objective,
        optimizer: Any,
        substeps: int = 8,
        *,
        start: Pair | None = None,
        noise: float = 1e-6,
        seed: int = 0,
    ) -> None:
        self._map = StepMap(objective, optimizer, "the two-point flow")
        self.objective, self.substeps, self.noise = objective, substeps, noise
        self.time = 0.0
        self._generator = torch.Generator().manual_seed(seed)
        if start is None:
            self._w = objective.parameters()
            self._delta = torch.zeros_like(self._w)
        else:
            before, after = _checked_start(start, objective)
            self._w, self._delta = (before + after) / 2, (after - before) / 2

    @property
    def weights(self) -> Float[Tensor, " P"]:
        """A copy of w, the centre."""
        return self._w.clone()

    @property
    def delta(self) -> Float[Tensor, " P"]:
        """A copy of δ, half of what lies between the two points."""
        return self._delta.clone()

    @checked(loss=check_bool)
    @in_plain_arithmetic
    def step(self, loss: bool = False) -> TwoPointStep:
        """One unit of time, that is, one step of the optimizer; with the ``loss`` at the centre for one loss more."""
        spent = self.objective.spent
        generator = self._generator.get_state()
        w, delta, dt = self._w, self._delta, 1 / self.substeps
        opposed = 0.0
        for _ in range(self.substeps):
            delta = delta + self._draw(math.sqrt(dt))
            ends = (w + delta, w - delta)
            gradients = [self.objective.gradient(end) for end in ends]
            one, other = (self._map(end, g) for end, g in zip(ends, gradients, strict=True))
            w = w - dt / 2 * (one + other)
            delta = (1 - 2 * dt) * delta + dt / 2 * (one - other)
            opposed += dt * float((gradients[0] * gradients[1] < 0).double().mean())
        losses = [float(self.objective.loss(end)) for end in (w + delta, w - delta)]
        if not (math.isfinite(sum(losses)) and bool(torch.isfinite(w).all() & torch.isfinite(delta).all())):
            self._generator.set_state(generator)
            raise EdgescopeError(
                f"the two-point flow diverged between the times {self.time:g} and {self.time + 1:g}",
                expected="a finite loss at both ends",
                hint=f"substeps={2 * self.substeps}, or a smaller learning rate",
            )
        centre = float(self.objective.loss(w)) if loss else None
        drift = float((w - self._w).double().norm())
        self._w, self._delta, self.time = w, delta, self.time + 1
        half_distance = float(delta.double().norm())
        cost = self.objective.spent - spent
        return TwoPointStep(self.time, sum(losses) / 2, centre, half_distance, drift, opposed, cost)

    def state(self) -> dict[str, Tensor]:
        """The state from which :meth:`load_state` continues bit for bit."""
        return {
            "weights": self.weights,
            "delta": self.delta,
            "time": torch.tensor(self.time, dtype=torch.float64, device="cpu"),
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a result of :meth:`state`, on the same objective, optimizer and number of substeps."""
        if not isinstance(state, Mapping):
            raise InputError(f"a state that is {type_of(state)}", expected="a result of state()")
        missing = next((name for name in ("weights", "delta", "time", "generator") if name not in state), None)
        if missing is not None:
            raise InputError(f"a state of a two-point flow without '{missing}'", expected="a result of state()")
        w, delta = _checked_start((state["weights"], state["delta"]), self.objective, "a state")
        self._generator.set_state(state["generator"].cpu())
        self._w, self._delta, self.time = w.clone(), delta.clone(), float(state["time"])

    def _draw(self, scale: float) -> Tensor:
        """A random vector of expected squared length (scale noise)², on the parameters that move."""
        if not self.noise:
            return torch.zeros_like(self._w)
        moving = self._map.moving()
        drawn = torch.randn(len(moving), generator=self._generator, dtype=torch.float64, device="cpu")
        return moving * drawn.to(moving) * (scale * self.noise / math.sqrt(max(1.0, float(moving.sum()))))


def _checked_start(pair: Any, objective: Objective, what: str = "start") -> Pair:
    """Two vectors where the objective measures; InputError for anything else."""
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, Tensor) for one in pair)):
        raise InputError(
            f"start given as {type_of(pair)}", expected="two successive iterates, flat vectors", hint="onset.pair"
        )
    before, after = (checked_weights(one, objective, what) for one in pair)
    return before, after
