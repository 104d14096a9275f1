"""The stable flow: where an optimizer would go if it did not oscillate, whatever its threshold."""

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
from edgescope.flows.averaged import AveragedRule, Slow, advanced
from edgescope.flows.checks import check_objective
from edgescope.flows.drift import AveragedDrift, Drift, MemorylessDrift
from edgescope.flows.step_map import StepMap, checked_weights, is_random
from edgescope.linalg import EigenTracker
from edgescope.notebooks import in_notebooks
from edgescope.objective import Objective
from edgescope.optim import rule_for
from edgescope.options import check_bool, checked, integer, type_of
from edgescope.short_errors import short_errors

LEAST = 4
"""Euler steps a unit of time at least where the threshold is that of an eigenvalue."""

MOST = 10_000
"""Euler steps a unit of time at most: beyond, the flow has no use."""


@in_notebooks
@dataclass(frozen=True)
class StableStep:
    """The stable flow at ``time``, in steps of the optimizer since the flow began: the ``loss`` there.

    ``substeps`` is how many Euler steps the unit of time took, and ``sharpness`` the largest eigenvalue at its
    beginning over the threshold, above 1 where the optimizer itself would oscillate; None where no eigenvalue decides.
    """

    time: float
    loss: float
    substeps: int
    sharpness: float | None
    cost: Cost


@short_errors
class StableFlow:
    """dw/dt = -F(w), F the step that the optimizer would take at w: gradient flow in the optimizer's own norm.

    It has no threshold and does not oscillate, so that its distance from a run, beside that of
    :class:`~edgescope.flows.CentralFlow` or :class:`~edgescope.flows.TwoPointFlow`, is what oscillation does to the
    trajectory. A unit of time is one step of the optimizer. For RMSProp the preconditioner is part of the flow: its
    second moments follow the squares of the flow's own gradients. It is integrated by Euler steps, at which it acts
    like L + (η dt/4) ||∇L||²: state ``substeps`` with every figure.

    Args:
        objective: the loss on all training data.
        optimizer: SGD, ``es.optim.SteepestDescent`` in any geometry, or another optimizer without memory, whose
            learning rates are read at every step; SGD with momentum (at the rate of settled buffers), RMSProp without
            momentum, with their present options and second moments. Neither it nor the model are changed.
        substeps: Euler steps a unit of time at least. Past the threshold the flow is stiff: where the largest
            eigenvalue is S times the threshold, at least max(4, 4 S) are taken (with momentum β (1+β)/(1-β) times as
            many), for which an :class:`EigenTracker` measures S. In norms where no eigenvalue decides (Linf, Spectral,
            Blocks; normalized steps) it is exactly ``substeps``, and in Linf the flow chatters with an amplitude in
            proportion to 1/substeps.
        start: flat weights to start from; by default the model's parameters.
        experimental: take Adam too, as :class:`~edgescope.flows.CentralFlow` does with this option.

    Cost: one gradient a substep, one loss a step, and the products of the tracker, once a step. ``state()`` and
    ``load_state()`` resume bit for bit. Raises :class:`NotKnownError` for optimizers whose averaged dynamics is not
    known, among them Adam without ``experimental``, :class:`InputError` for an objective of a model with dropout, and
    :class:`EdgescopeError` where it diverges, which leaves it as it was before the step.
    """

    @checked(substeps=integer(1, MOST), experimental=check_bool)
    def __init__(
        self,
        objective: Objective,
        optimizer: Any,
        substeps: int = LEAST,
        *,
        start: Float[Tensor, " P"] | None = None,
        seed: int = 0,
        experimental: bool = False,
    ) -> None:
        self._drift = _drift_of(objective, optimizer, experimental)
        self.objective, self.substeps = objective, substeps
        self.time = 0.0
        self._w = objective.parameters() if start is None else checked_weights(start, objective, "start")
        self._slow: Slow = self._drift.slow
        self._tracker = EigenTracker(objective, seed=seed)

    @property
    def weights(self) -> Float[Tensor, " P"]:
        """A copy of the weights."""
        return self._w.clone()

    @property
    def slow_state(self) -> Slow:
        """The second moments of the optimizer now, as copies; empty for optimizers without them."""
        return {name: value.clone() for name, value in self._slow.items()}

    @in_plain_arithmetic
    def step(self) -> StableStep:
        """One unit of time, that is, one step of the optimizer."""
        spent = self.objective.spent
        w, slow, count = self._w, self._slow, self.substeps
        sharpness = self._drift.sharpness(w, slow, self._tracker)
        if sharpness is not None:
            count = max(count, LEAST, math.ceil(2 * self._drift.stiffness * sharpness))
            if count > MOST:
                raise EdgescopeError(
                    f"the stable flow would need {count:,} substeps at the time {self.time:g}: the sharpness is "
                    f"{sharpness:.3g} of the threshold",
                    hint="a smaller learning rate",
                )
        for _ in range(count):
            velocity, rate = self._drift(w, slow, self.objective.gradient(w))
            w, slow = w + velocity / count, advanced(slow, rate, 1 / count)
        loss = float(self.objective.loss(w))
        if not (math.isfinite(loss) and bool(torch.isfinite(w).all())):
            raise EdgescopeError(
                f"the stable flow diverged between the times {self.time:g} and {self.time + 1:g}",
                expected="a finite loss",
                hint=f"substeps={2 * count}",
            )
        self._w, self._slow, self.time = w, slow, self.time + 1
        return StableStep(self.time, loss, count, sharpness, self.objective.spent - spent)

    def state(self) -> dict[str, Tensor]:
        """The state from which :meth:`load_state` continues bit for bit."""
        own = {"weights": self.weights, "time": torch.tensor(self.time, dtype=torch.float64, device="cpu")}
        own |= {f"slow.{name}": value for name, value in self.slow_state.items()}
        return own | {f"tracker.{name}": value for name, value in self._tracker.state().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a result of :meth:`state`, on the same objective, optimizer and number of substeps."""
        if not isinstance(state, Mapping):
            raise InputError(f"a state that is {type_of(state)}", expected="a result of state()")
        wanted = ["weights", "time", *(f"slow.{name}" for name in self._slow)]
        missing = next((name for name in wanted if name not in state), None)
        if missing is not None:
            raise InputError(f"a state of a stable flow without '{missing}'", expected="a result of state()")
        w = checked_weights(state["weights"], self.objective, "a state").clone()
        slow = {name: state[f"slow.{name}"].to(w).clone() for name in self._slow}
        prefix = "tracker."
        self._tracker.load_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._w, self._slow, self.time = w, slow, float(state["time"])


def _drift_of(objective: Objective, optimizer: Any, experimental: bool) -> Drift:
    owner = "the stable flow"
    check_objective(objective, owner)
    rule = rule_for(optimizer, objective.tensors)
    if any(one.vectors() for one in rule.rules) and all(
        one.gradients == 1 and not is_random(one) for one in rule.rules
    ):
        return AveragedDrift(objective, AveragedRule(objective, optimizer, experimental))
    return MemorylessDrift(StepMap(objective, optimizer, owner))
