"""Networks trapped on the population, then trained on 25 samples: learning curves that jump late, or never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.experiments.phases.linear_network import SIZES, second
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.simulate.linear_data import Gaussian, Samples
from edgescope.simulate.linear_nets import random_nets, simulate


@dataclass(frozen=True)
class Sparse:
    """Release on few samples after a trap of ``held`` steps, for several draws: with or without Langevin noise."""

    held: int
    decay: float
    steps: int
    draws: int
    temperature: float | None = None


@dataclass(frozen=True)
class SparseTask(PiecesTask[Sparse]):
    """The grokking curve: pretrained, trapped on the population, then trained on 25 samples alone, all at every step.

    Draws of the samples whose correlation has a second singular value in ``window`` are taken, as our replication has
    it: others have no second state to escape to. A second singular value above ``escaped`` is an escape.
    """

    escaped: float = 0.1
    window: tuple[float, float] = (0.65, 0.75)
    samples: int = 25
    trap: float = 0.38
    lr: float = 0.1

    def describe(self) -> dict[str, Any]:
        return {"data": f"{self.samples} samples, signals 0.9, 0.8", "model": "linear 2-10-10-2", "lr": self.lr}

    def simulate(self, piece: Sparse, seed: int) -> list[Reading]:
        """ "delay" of every draw (steps, infinite: none); losses on the samples and on the population over time."""
        population = Gaussian(np.diag([0.9, 0.8]))
        options: dict[str, Any] = {"lr": self.lr, "threads": 1}
        every = max(1, piece.steps // 400)
        delays, curves = [], []
        for number, data in enumerate(self._draws(piece.draws)):
            nets = random_nets(SIZES, 1, seed=1000 * self.seed + number)
            nets = simulate(population, nets, SIZES, decay=0.0, steps=3000, **options).nets
            nets = simulate(population, nets, SIZES, decay=self.trap, steps=piece.held, **options).nets
            run = simulate(
                data, nets, SIZES, decay=piece.decay, steps=piece.steps, temperature=piece.temperature, every=every,
                seed=seed + 500 + number, **options,
            )  # fmt: skip
            escaped = second(run.maps[0]) > self.escaped
            delays.append(float(run.map_steps[escaped.argmax()]) if escaped.any() else np.inf)
            curves.append(np.stack([data.loss(run.maps[0]), population.loss(run.maps[0])]))
        values = {"held": float(piece.held), "decay": piece.decay, "temperature": piece.temperature or 0.0}
        arrays = {"delays": np.array(delays), "at": run.map_steps, "losses": np.array(curves)}
        return [Reading("sparse", values, arrays=arrays)]

    def _draws(self, count: int) -> list[Samples]:
        population, seed = Gaussian(np.diag([0.9, 0.8])), 1000 * self.seed
        found: list[Samples] = []
        while len(found) < count:
            data, seed = population.draw(self.samples, seed=seed), seed + 1
            if self.window[0] < second(data.correlation) < self.window[1]:
                found.append(data)
        return found
