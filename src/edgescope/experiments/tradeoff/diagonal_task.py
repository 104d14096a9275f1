"""Descent on diagonal linear networks over a grid of rates: one sample, and several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from edgescope.measures import Reading
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import Tagged
from edgescope.theory.diagonal import Flow, Problem

STATUSES = ("converged", "diverged", "unfinished")

MEASURE = "descent"


@dataclass(frozen=True)
class DiagonalTask(Tagged):
    """``samples`` random samples of ``inputs`` numbers, or with one sample x = (2, 1), y = 2, from weights ``scale``.

    Step k of the record is the k-th rate; readings "descent" have what descent ended with there, as parts; "flow" and
    "theory", at step 0, the flow and the closed forms. The target beta is (1/2, 1) for one sample, else random with
    about half of its entries zero. Risks are those of isotropic test inputs of variance 1.
    """

    name: str
    cost: float
    ratios: tuple[float, ...]
    samples: int = 1
    inputs: int = 2
    seed: int = 0
    scale: float = 1e-3
    tol: float = 1e-12
    max_steps: int = 2_000_000

    def problem(self) -> tuple[Problem, Float[np.ndarray, " d"]]:
        """The regression and the target of its risk."""
        if self.samples == 1:
            return Problem([2.0, 1.0], 2.0), np.array([0.5, 1.0])
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.samples, self.inputs))
        target = rng.exponential(size=self.inputs) * (rng.random(self.inputs) < 0.5)
        return Problem(x, x @ target), target

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        config = {
            "data": f"{self.samples} samples of {self.inputs} numbers",
            "model": "diagonal linear network",
            "loss": "half-squared",
            "seed": self.seed,
        }
        with Record.create(folder, config=config, overwrite=(folder / FILE).exists(), tags=self.tags) as record:
            problem, target = self.problem()
            flow = problem.gradient_flow(self.scale, self.tol)
            rates = np.array(self.ratios) * flow.critical_lr
            for step, (ratio, lr) in enumerate(zip(self.ratios, rates, strict=True)):
                end = problem.descend(float(lr), self.scale, self.tol, self.max_steps)
                values = {"lr": lr, "ratio": ratio, "steps": end.steps, "status": STATUSES.index(end.status)}
                if end.status != "diverged":
                    values |= {
                        "sharpness": end.sharpness,
                        "l1": end.l1_norm,
                        "squared_l2": end.squared_l2_norm,
                        "risk": problem.risk(end.beta, target),
                    }
                    if self.samples == 1:  # the controls: a target at one end, where one bias alone wins
                        values |= {
                            f"risk/{name}": problem.risk(end.beta, beta) for name, beta in _controls(problem).items()
                        }
                more = [_flow(flow, problem, target), _theory(problem, target)] if step == 0 else []
                record.append(step, [Reading(MEASURE, {k: float(v) for k, v in values.items()}), *more])
                progress((step + 1) / len(rates), f"rate {step + 1} of {len(rates)}")
            record.set_info("steps", len(rates))
            record.set_status("finished")


def _controls(problem: Problem) -> dict[str, Float[np.ndarray, " d"]]:
    return {"norm": problem.norm_minimizer(), "sharpness": problem.sharpness_minimizer()}


def _flow(flow: Flow, problem: Problem, target: Float[np.ndarray, " d"]) -> Reading:
    names = ("critical_lr", "max_sharpness", "sharpness", "l1_norm", "squared_l2_norm")
    return Reading("flow", {n: float(getattr(flow, n)) for n in names} | {"risk": problem.risk(flow.beta, target)})


def _theory(problem: Problem, target: Float[np.ndarray, " d"]) -> Reading:
    best = problem.optimum(target)
    values = {"critical_lr": problem.critical_lr(), "largest_stable_lr": problem.largest_stable_lr()}
    values |= {"best_lr": best.lr, "best_risk": best.risk, "best_share": best.share}
    for name, beta in _controls(problem).items():
        values[f"{name}/sharpness"] = problem.sharpness(beta)
        values |= {f"{name}/squared_l2": float(beta.sum()), f"{name}/risk": problem.risk(beta, target)}
    return Reading("theory", {key: float(value) for key, value in values.items()})
