"""Constant weight decay against a schedule, both tuned by as many trial runs: steps to a test accuracy or loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.losses import accuracy_counts
from edgescope.measures import Reading
from edgescope.objective.modules import thread_count
from edgescope.phases import DecayTransitions, schedule
from edgescope.training import Parts, RunConfig
from edgescope.training.stepping import take_step

RELATIVE = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Decays of the trials at constant decay, over the usual one of the set-up."""

TRIAL_SEED = 1000
"""Seed of the trials over that of the study; networks are compared on others."""


@dataclass(frozen=True)
class DecayProblem:
    """A training run whose steps to ``target`` on the test data are counted, at most ``config.steps``.

    ``target`` is an accuracy to reach, or with ``by_loss`` a loss to fall to; ``memorised`` the same of the training
    data, from which a run without decay counts as having learned its features. ``usual`` is the decay of the set-up.
    """

    name: str
    config: RunConfig
    usual: float
    target: float
    memorised: float
    by_loss: bool = False
    every: int = 5


@dataclass(frozen=True)
class DecayTrialsTask(PiecesTask[DecayProblem]):
    """Trials on one seed, six at constant decay and six for the schedule; then both at their best on others.

    The first trial of the schedule has no decay, and says when features have been learned. The others raise the decay
    there to 1, 2, 4, 8 and 16 times the usual one.
    """

    seeds: int = 5

    def describe(self) -> dict[str, Any]:
        names = ", ".join(piece.name for piece in self.pieces)
        return {"data": names, "model": "networks of set-ups", "lr": self.pieces[0].config.lr}

    def simulate(self, piece: DecayProblem, seed: int) -> list[Reading]:
        """Values: "constant" and "scheduled", the decays chosen (NaN: none got there), and "learned", the step of the
        rise. Arrays of steps (inf: not in time): "trials/constant" and "trials/scheduled" over the decays of the
        trials, "steps/constant" and "steps/scheduled" over the seeds of the comparison."""
        trial = seed + TRIAL_SEED
        decays = [piece.usual * share for share in RELATIVE]
        constant = [steps_to_target(piece, trial, at_constant(decay))[0] for decay in decays]
        without, learned = steps_to_target(piece, trial, at_constant(0.0))
        rises = [rising(piece, learned, decay) for decay in decays[1:]] if math.isfinite(learned) else []
        scheduled = [without, *(steps_to_target(piece, trial, at)[0] for at in rises)]
        best, chosen = decays[int(np.argmin(constant))], int(np.argmin(scheduled))
        after: Callable[[int], float] = rises[chosen - 1] if chosen else at_constant(0.0)
        own = [seed + 1 + number for number in range(self.seeds)]
        steps = {
            "steps/constant": [steps_to_target(piece, one, at_constant(best))[0] for one in own],
            "steps/scheduled": [steps_to_target(piece, one, after)[0] for one in own],
        }
        values = {"constant": best, "scheduled": decays[chosen] if chosen else 0.0, "learned": learned}
        values |= {"most": float(piece.config.steps)}
        arrays = {"decays": decays, "trials/constant": constant, "trials/scheduled": scheduled} | steps
        return [Reading("decay trials", values, arrays={k: np.array(v) for k, v in arrays.items()}, note=piece.name)]


def at_constant(decay: float) -> Callable[[int], float]:
    """The same decay at every step."""
    return lambda _: decay


def rising(problem: DecayProblem, learned: float, final: float) -> Callable[[int], float]:
    """No decay until the features are learned, then ``final``: the schedule of a network that is kept below an upper
    spinodal above the largest decay of the trials."""
    highest = DecayTransitions(0.0, 2 * problem.usual * RELATIVE[-1])
    return schedule(highest, steps=max(1, int(learned)), final=final).at


def steps_to_target(problem: DecayProblem, seed: int, decay: Callable[[int], float]) -> tuple[float, float]:
    """The step at which the test data first meet the target, and that at which the training data are learned (inf:
    not within ``config.steps``), at the decay of each step."""
    config = dataclasses.replace(problem.config, seed=seed)
    learned = math.inf
    with thread_count(1), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        parts = Parts(config)
        model, (optimizer,) = parts.model, parts.optimizers

        def gradient() -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = parts.loss_fn(model, parts.samples)
            loss.backward()
            return loss.detach()

        for step in range(config.steps + 1):
            if step % problem.every == 0:
                if math.isinf(learned) and _meets(problem, parts, parts.samples, problem.memorised):
                    learned = float(step)
                if _meets(problem, parts, parts.test_samples, problem.target):
                    return float(step), learned
            if step == config.steps:
                break
            for group in optimizer.param_groups:
                group["weight_decay"] = decay(step)
            gradient()
            take_step([optimizer], gradient)
    return math.inf, learned


def _meets(problem: DecayProblem, parts: Parts, samples: Any, target: float) -> bool:
    with torch.no_grad():
        if problem.by_loss:
            return float(parts.loss_fn(parts.model, samples)) <= target
        correct, count = accuracy_counts(parts.model(samples[0]), samples[1])
        return correct >= target * count
