"""The optimizer side of a comparison: an optimizer on all data, its last iterates, and where it is on average."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from edgescope.flows.averages import midpoint
from edgescope.flows.onset import OscillationOnset
from edgescope.objective import Objective
from edgescope.training import Parts, RunConfig


class FullBatchDescent:
    """The optimizer of a configuration on all of its data, step by step.

    After ``advance()`` the model has taken one more step, and ``loss``, ``gradient_square`` and ``preconditioner`` are
    those before it. ``preconditioner`` is Σ√ν of RMSProp, NaN for optimizers without ν.
    """

    def __init__(self, config: RunConfig) -> None:
        self.parts = Parts(config)
        how: dict[str, Any] = {"path": config.path or "kept", "threads": config.threads or 1}
        self.objective: Objective = self.parts.objective(self.parts.samples, self.parts.mode, **how)
        self.test: Objective | None = self.parts.evaluations(**how).get("test")
        self.optimizer: torch.optim.Optimizer = self.parts.optimizer
        self.steps = 0
        self.loss = self.gradient_square = self.preconditioner = math.nan
        self.iterates: deque[Float[Tensor, " P"]] = deque([self.objective.parameters()], maxlen=4)

    def advance(self) -> None:
        """One step. Costs one gradient."""
        gradient = self.objective.gradient()
        self.loss = float(self.objective.loss())
        self.gradient_square = float(gradient.square().sum())
        self.preconditioner = self._preconditioner()
        for tensor, slot in zip(self.objective.tensors, self.objective.layout, strict=True):
            tensor.grad = gradient[slot.slice].view(slot.shape).clone()
        self.optimizer.step()
        self.steps += 1
        self.iterates.append(self.objective.parameters())

    def reach(self, step: int) -> None:
        """Take steps until there were ``step`` of them."""
        while self.steps < step:
            self.advance()

    def reach_oscillation(self, at_most: int) -> bool:
        """Take steps until successive ones begin to point back, ``at_most`` of them; whether they did.

        The two iterates between which that was seen are then the last two of ``iterates``.
        """
        onset = OscillationOnset()
        while not onset.update(self.iterates[-1]):
            if self.steps >= at_most or not math.isfinite(float(self.iterates[-1].sum())):
                return False
            self.advance()
        return True

    def average(self, between: bool) -> Float[Tensor, " P"]:
        """The averaged trajectory one step before the last iterate; with ``between`` half a step earlier still.

        The first is the midpoint of three iterates, the second the mean of two such midpoints: the time to which the
        mean of two successive iterates belongs.
        """
        *_, before, now, after = self.iterates
        here = midpoint(before, now, after)
        if not between:
            return here
        return (midpoint(self.iterates[-4], before, now) + here) / 2

    def state(self) -> dict[str, Any]:
        """What :meth:`load_state` continues from."""
        return {
            "model": self.parts.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "iterates": list(self.iterates),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a result of :meth:`state` of the same configuration."""
        self.parts.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        self.iterates = deque(state["iterates"], maxlen=4)

    def _preconditioner(self) -> float:
        found = [self.optimizer.state.get(tensor, {}).get("square_avg") for tensor in self.objective.tensors]
        if any(nu is None for nu in found):
            return math.nan
        return float(sum(nu.sqrt().sum() for nu in found if nu is not None))
