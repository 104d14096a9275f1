"""Networks that are not linear: weight decay up and down, and the barrier between the two ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.phases import barrier, scan
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import follow, random_nets
from edgescope.studies.phases.pieces import PiecesTask
from edgescope.theory.deep_linear import Mode
from edgescope.training import Parts, RunConfig


@dataclass(frozen=True)
class Swept:
    """One network: its data and model by name, rates of its sweep."""

    name: str
    data: str
    model: str
    loss: str = "mse"
    lr: float = 0.1
    highest: float = 0.3
    train: int | None = None
    settle: int = 1000


@dataclass(frozen=True)
class NetworksTask(PiecesTask):
    """Quasi-static sweeps of whole networks, with a little jitter at each decay, and a path between both ways."""

    networks: tuple[Swept, ...]
    decays: int
    steps: int
    jitter: float = 1e-3
    path_steps: int = 100

    def pieces(self) -> Sequence[Swept]:
        return self.networks

    def describe(self) -> dict[str, Any]:
        data = sorted({piece.data.partition(":")[0] for piece in self.networks})
        return {"data": ", ".join(data), "model": "networks with tanh, ReLU and GELU", "lr": self.networks[0].lr}

    def simulate(self, piece: Swept, seed: int) -> list[Reading]:
        """ "area/NAME" and "jumps/NAME" of each order parameter, "largest/NAME" its largest jump over its range and
        "at/NAME" the decay before it; "height" and "back" of the path at the highest decay of the loop."""
        config = RunConfig(
            data=piece.data, model=piece.model, loss=piece.loss, lr=piece.lr, train=piece.train, seed=self.seed,
            dtype="float64", threads=1, path="kept",
        )  # fmt: skip
        parts = Parts(config)
        objective = parts.objective(parts.samples, parts.mode, path="kept", threads=1)
        decays = np.geomspace(piece.highest / 1000, piece.highest, self.decays)
        found = scan(
            objective, decays.tolist(), lr=piece.lr, steps=self.steps, first=piece.settle, jitter=self.jitter,
            seed=seed,
        )  # fmt: skip
        values: dict[str, float] = {}
        for name in found.up:
            jumps = found.jumps(name)
            both = np.concatenate([found.up[name], found.down[name]])
            values |= {f"area/{name}": found.area(name), f"jumps/{name}": float(len(jumps))}
            largest = max(jumps, key=lambda jump: abs(jump.size), default=None)
            if largest is not None:
                values |= {f"largest/{name}": abs(largest.size) / float(np.ptp(both)), f"at/{name}": largest.before}
        values |= {f"residual/{way}": float(np.median(rest)) for way, rest in found.residual.items()}
        # At the highest decay of the loop: the barrier out of the lower state grows with the decay.
        gap = np.abs(found.up["norm"] - found.down["norm"])
        place = int(np.flatnonzero(gap >= gap.max() / 4)[-1])
        decay = float(decays[place])
        decayed = parts.objective(parts.samples, parts.mode, l2=decay, path="kept", threads=1)
        low, high = found.states["down"][place], found.states["up"][place]
        path = barrier(decayed, low, high, images=5, steps=self.path_steps, tol=0.02)
        lower = float(path.losses[-1] - path.losses[0])
        values |= {"path decay": decay, "height": path.height, "back": path.back, "up less down": lower}
        values |= {"converged": float(path.converged), "start": float(objective.loss(found.states["down"][0]))}
        arrays = {"decays": found.decays} | {f"up/{n}": v for n, v in found.up.items()}
        arrays |= {f"down/{n}": v for n, v in found.down.items()}
        return [Reading("network", values, arrays=arrays, note=piece.name)]


@dataclass(frozen=True)
class LinearPathsTask(PiecesTask):
    """Paths between the two states of the weaker mode on deep linear networks, found by descent from random weights."""

    cases: tuple[tuple[int, int, float], ...] = ((3, 4, 0.25), (3, 10, 0.28), (4, 5, 0.15))
    signals: tuple[float, float] = (0.9, 0.8)

    def pieces(self) -> Sequence[tuple[int, int, float]]:
        return self.cases

    def describe(self) -> dict[str, Any]:
        return {"data": f"population, signals {self.signals}", "model": "linear, depth 3 and 4"}

    def simulate(self, piece: tuple[int, int, float], seed: int) -> list[Reading]:
        """ "height" and "back" of the path, and "up" and "down", the barriers in closed form."""
        depth, width, decay = piece
        mode, sizes = Mode(depth, self.signals[1]), (2, *[width] * (depth - 1), 2)
        population = Gaussian(np.diag(self.signals))

        def relaxed(nets: np.ndarray, at: float) -> np.ndarray:
            return follow(population, nets, sizes, decay=at, lr=0.05, steps=30_000, threads=1).nets

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
        values |= {"back": path.back, "up": float(mode.barrier_up(decay)), "down": float(mode.barrier_down(decay))}
        return [Reading("linear path", values)]
