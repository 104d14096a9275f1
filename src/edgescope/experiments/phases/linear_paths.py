"""Paths between two states of deep linear networks, whose height is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.phases import barrier
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import random_nets, simulate
from edgescope.theory.deep_linear import Mode


@dataclass(frozen=True)
class LinearPath:
    """A path in a deep linear network of this depth and width, at this decay."""

    depth: int
    width: int
    decay: float


LINEAR_PATHS = (LinearPath(3, 4, 0.25), LinearPath(3, 10, 0.28), LinearPath(4, 5, 0.15))


@dataclass(frozen=True)
class LinearPathsTask(PiecesTask[LinearPath]):
    """Paths between the two states of the weaker mode on deep linear networks, found by descent from random weights."""

    signals: tuple[float, float] = (0.9, 0.8)

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {self.signals}", "model": "linear, depth 3 and 4"}

    def simulate(self, piece: LinearPath, seed: int) -> list[Reading]:
        """ "height" and "back" of the path, and "up" and "down", the barriers in closed form."""
        depth, width, decay = piece.depth, piece.width, piece.decay
        mode, sizes = Mode(depth, self.signals[1]), (2, *[width] * (depth - 1), 2)
        population = Gaussian(np.diag(self.signals))

        def relaxed(nets: np.ndarray, at: float) -> np.ndarray:
            return simulate(population, nets, sizes, decay=at, lr=0.05, steps=30_000, threads=1).nets

        learned = relaxed(relaxed(random_nets(sizes, 1, seed=seed), 0.02), decay)
        trapped = relaxed(relaxed(learned, 1.1 * mode.critical_decay()), decay)
        model = torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))).double()

        def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return (model(batch[0]) - batch[1]).square().sum(1).mean()

        data = torch.eye(2, dtype=torch.float64), torch.tensor(population.correlation)
        objective = Objective(model, loss, data, l2=decay, path="kept", threads=1)
        ends = [
            torch.cat([torch.tensor(w[0, i, :b, :a]).flatten() for i, (a, b) in enumerate(pairwise(sizes))])
            for w in (trapped, learned)
        ]
        path = barrier(objective, ends[0], ends[1])
        values = {"depth": float(depth), "width": float(width), "decay": decay, "height": path.height}
        values |= {
            "back": path.reverse_height,
            "up": float(mode.barrier_up(decay)),
            "down": float(mode.barrier_down(decay)),
        }
        return [Reading("linear path", values)]
