"""Chains whose descent without noise takes long: to learn from near the saddle, to forget past the critical decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.simulate.chains import chains
from edgescope.theory.deep_linear import Mode


@dataclass(frozen=True)
class PlateauTask(PiecesTask[float]):
    """Descent of a chain without noise from w0 = kappa decay / signal: how long it takes to learn."""

    ratios: tuple[float, ...] = (0.9, 1.05, 1.2, 1.5, 2.0, 4.0)
    signal: float = 1.0

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signal {self.signal:g}", "model": "chain of 3", "lr": "0.002/decay"}

    def simulate(self, piece: float, seed: int) -> list[Reading]:
        """For each kappa: "time" until half the learned product (infinite: not within 20 times 1/decay), "theory"."""
        mode, lr = Mode(3, self.signal), min(0.05, 0.002 / piece)
        level, ratios = mode.minimum_product(piece) / 2, np.array(self.ratios)
        starts = ratios * piece / self.signal
        times = []
        for start in starts:
            run = chains(mode, piece, lr=lr, steps=int(20 / piece / lr), level=level, start=float(start))
            times.append(float(run.times[0]) if run.passed[0] else np.inf)
        arrays = {"ratio": ratios, "time": np.array(times), "theory": np.asarray(mode.plateau_time(piece, starts))}
        return [Reading("plateau", {"decay": piece}, arrays=arrays)]


@dataclass(frozen=True)
class DwellTask(PiecesTask[int]):
    """Descent of a chain just past its critical decay, from where the learned state ended: how long it lingers."""

    beyond: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 1e-6)
    signal: float = 1.0
    lr: float = 0.1

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signal {self.signal:g}", "model": "chain of 3", "lr": self.lr}

    def simulate(self, piece: int, seed: int) -> list[Reading]:
        """Arrays: "beyond", the decay over the critical one less 1, and "time" until half of the product is lost."""
        mode = Mode(3, self.signal)
        start, level = mode.critical_product() ** (1 / 3), mode.critical_product() / 2
        times = []
        for share in self.beyond:
            run = chains(
                mode, mode.critical_decay() * (1 + share), lr=self.lr, steps=10_000_000, level=level, start=start
            )
            times.append(float(run.times[0]) if run.passed[0] else np.inf)
        return [Reading("dwell", {}, arrays={"beyond": np.array(self.beyond), "time": np.array(times)})]
