"""Two modes that Langevin noise brings out of zero one after the other: when each is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.experiments.phases.linear_network import SIZES
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import balanced_nets, simulate
from edgescope.theory.deep_linear import Mode


@dataclass(frozen=True)
class StagedTask(PiecesTask[int]):
    """Two modes apart from each other, both unlearned, under Langevin noise: when each is learned."""

    replicas: int
    steps: int
    signals: tuple[float, float] = (0.9, 0.6)
    decay: float = 0.2
    temperature: float = 5e-4
    lr: float = 0.05

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {self.signals}", "model": "linear 2-10-10-2", "lr": self.lr}

    def simulate(self, piece: int, seed: int) -> list[Reading]:
        """Arrays: the steps at which each mode passed half its learned product (infinite: never), and one run's."""
        nets = balanced_nets(np.zeros((2, 2)), SIZES, self.replicas)
        run = simulate(
            Gaussian(np.diag(self.signals)), nets, SIZES, decay=self.decay, lr=self.lr, steps=self.steps,
            temperature=self.temperature, every=20, seed=seed,
        )  # fmt: skip
        values = np.linalg.svd(run.maps, compute_uv=False)  # (R, T, 2)
        halves = np.array([Mode(3, s).minimum_product(self.decay) / 2 for s in self.signals])
        passed = values > halves
        first = np.where(passed.any(1), run.map_steps[passed.argmax(1)].astype(float), np.inf)
        arrays = {"first": first, "at": run.map_steps, "shown": values[0]}
        return [Reading("staged", {"replicas": float(self.replicas)}, arrays=arrays)]
