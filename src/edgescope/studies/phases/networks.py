"""Networks that are not linear: weight decay up and down, and the barrier between the two ways."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from edgescope.measures import Reading
from edgescope.objective import Objective
from edgescope.phases import barrier, scan
from edgescope.simulate.linear_data import Gaussian
from edgescope.simulate.linear_nets import random_nets, simulate
from edgescope.studies.phases.delays import escapes, traps_at
from edgescope.studies.phases.pieces import PiecesTask
from edgescope.theory.deep_linear import Mode
from edgescope.training import Parts, RunConfig


@dataclass(frozen=True)
class Swept:
    """One network: its data and model by name, of ``width`` in every layer."""

    name: str
    data: str
    model: str
    width: int
    train: int
    lr: float = 0.1
    highest: float = 0.3


@dataclass(frozen=True)
class NetworkSettings:
    """A sweep of ``steps`` at each of the ``decays``, ``settle`` at the first, with ``refine`` halvings in between;
    then ``replicas`` that may escape within ``escape_steps``, and ``path_steps`` of each path."""

    decays: int
    steps: int
    settle: int
    refine: int
    replicas: int
    escape_steps: int
    path_steps: int = 300
    shares: tuple[float, ...] = (1.0, 0.85, 0.7)
    jitter: float = 1e-3


@dataclass(frozen=True)
class NetworksTask(PiecesTask[Swept]):
    """Quasi-static sweeps of whole networks, a little jitter at each decay; then, at several decays below the one at
    which the loop ends, the path out of the lower state and how long ``replicas`` take under Langevin noise.

    The noise has one temperature for all decays: the barrier at the middle one over width + 4, since a linear
    network of this width has some (width - 1) T of its barrier melted, and escapes after e^5 times its own time.
    """

    settings: NetworkSettings

    def describe(self) -> dict[str, Any]:
        data = sorted({piece.data.partition(":")[0] for piece in self.pieces})
        return {"data": ", ".join(data), "model": "networks with tanh and ReLU", "lr": self.pieces[0].lr}

    def simulate(self, piece: Swept, seed: int) -> list[Reading]:
        """ "area/NAME" and "jumps/NAME" of each order parameter, "largest/NAME" its largest jump over its range and
        "at/NAME" the decay before it; arrays of both ways over "decays", and over "path decays": "height", "back" and
        "error" of the paths (NaN: not converged), "times" and "escaped" of every replica (none without a barrier), at
        "temperature"."""
        use = self.settings
        config = RunConfig(
            data=piece.data, model=piece.model, loss="mse", lr=piece.lr, train=piece.train, seed=self.seed,
            dtype="float64", threads=1, path="kept",
        )  # fmt: skip
        parts = Parts(config)
        objective = parts.objective(parts.samples, parts.mode, path="kept", threads=1)
        decays = np.geomspace(piece.highest / 1000, piece.highest, use.decays)
        found = scan(
            objective, decays.tolist(), lr=piece.lr, steps=use.steps, first=use.settle, jitter=use.jitter,
            refine=use.refine, seed=seed,
        )  # fmt: skip
        values = {"start": float(objective.loss(found.states["down"][0]))}
        for name in found.up:
            jumps = found.jumps(name)
            both = np.concatenate([found.up[name], found.down[name]])
            values |= {f"area/{name}": found.area(name), f"jumps/{name}": float(len(jumps))}
            largest = max(jumps, key=lambda jump: abs(jump.size), default=None)
            if largest is not None:
                values |= {f"largest/{name}": abs(largest.size) / float(np.ptp(both)), f"at/{name}": largest.before}
        values["settled"] = float(np.mean([rows.mean() for rows in found.settled.values()]))
        # Where the loop ends: the barrier out of the lower state grows with the decay.
        gap = np.abs(found.up["norm"] - found.down["norm"])
        place = int(np.flatnonzero(gap >= gap.max() / 4)[-1])
        low, high = found.states["down"][place], found.states["up"][place]
        at = [share * float(decays[place]) for share in use.shares]
        traps = traps_at(parts, at, low, high, use.steps, use.path_steps)
        heights = np.array([trap.height for trap in traps])
        known = heights[np.isfinite(heights)]
        temperature = float(np.median(known)) / (piece.width + 4) if known.size else 0.0
        values["temperature"] = temperature
        times, escaped = np.zeros((0, 0)), np.zeros((0, 0), dtype=bool)
        if temperature > 0:
            times, escaped = escapes(parts, traps, temperature, use.replicas, use.escape_steps, seed)
        arrays = {"decays": found.decays, "path decays": np.array(at), "height": heights}
        arrays |= {name: np.array([getattr(trap, name) for trap in traps]) for name in ("back", "error")}
        arrays |= {"times": times, "escaped": escaped.astype(float)}
        arrays |= {f"up/{n}": v for n, v in found.up.items()} | {f"down/{n}": v for n, v in found.down.items()}
        return [Reading("network", values, arrays=arrays, note=piece.name)]


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
