"""Two small examples on which the dimension is known otherwise: a toy attractor, and a Jacobian decomposed whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from edgescope.dimension import RandomAttractor, sharpness_dimension
from edgescope.linalg import to_matrix
from edgescope.measures import Reading
from edgescope.objective import in_precision
from edgescope.store import Record
from edgescope.store.record import FILE
from edgescope.sweep import Tagged
from edgescope.training import Parts, RunConfig


@dataclass(frozen=True)
class AttractorTask(Tagged):
    """The toy attractor of the paper: its box-counting dimension, and the dimension that bounds it."""

    name: str
    cost: float
    particles: int
    seed: int

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        with _new_record(folder, {"particles": self.particles, "seed": self.seed}, self.tags) as record:
            found = RandomAttractor().run(self.particles, seed=self.seed)
            boxes = Reading("box_dimension", {"": found.boxes.dimension}, {"": found.boxes.error})
            bound = {"": found.dimension, "mean": found.mean_dimension}
            record.append(250, [boxes, Reading("sharpness_dimension", bound)])
            record.set_status("finished")


@dataclass(frozen=True)
class JacobianTask(Tagged):
    """Log singular values of the update's Jacobian, found by themselves and from the eigenvalues of the Hessian.

    Of a network after ``steps`` of full-batch gradient descent, so that it has negative, null and large eigenvalues.
    """

    name: str
    cost: float
    config: RunConfig
    rates: tuple[float, ...] = (0.05, 1.0, 10.0)

    def run(self, folder: Path, progress: Callable[[float, str], None]) -> None:
        parts = Parts(self.config)
        with _new_record(folder, self.config.as_dict(), self.tags) as record:
            for _ in range(self.config.steps):
                parts.optimizer.zero_grad()
                parts.loss_fn(parts.model, parts.samples).backward()
                parts.optimizer.step()
            objective = in_precision(parts.objective(parts.samples, "eval", path="kept", threads=1), torch.float64)
            hessian = to_matrix(objective.operator())
            worst = {}
            for rate in self.rates:
                by_eigenvalues = sharpness_dimension(hessian, rate).exponents
                by_svd = torch.linalg.svdvals(torch.eye(len(hessian)).to(hessian) - rate * hessian).log()
                worst[f"{rate:g}"] = float((by_svd - by_eigenvalues).abs().max())
            record.append(self.config.steps, [Reading("log_singular_values", worst)])
            record.set_status("finished")


def _new_record(folder: Path, config: dict[str, object], tags: Mapping[str, str]) -> Record:
    return Record.create(folder, config=config, overwrite=(folder / FILE).exists(), tags=tags)
