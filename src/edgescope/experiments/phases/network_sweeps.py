"""Networks that are not linear: weight decay up and down, and the barrier between the two ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgescope.experiments.phases.loops import both_ways, settled_share
from edgescope.experiments.phases.network_escapes import escapes, traps_at
from edgescope.experiments.phases.pieces_task import PiecesTask
from edgescope.measures import Reading
from edgescope.phases import Scan, scan
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
            values |= _loop_of(found, name)
        values["settled"] = settled_share(found)
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
        arrays = both_ways(found) | {"path decays": np.array(at), "height": heights}
        arrays |= {name: np.array([getattr(trap, name) for trap in traps]) for name in ("back", "error")}
        arrays |= {"times": times, "escaped": escaped.astype(float)}
        return [Reading("network", values, arrays=arrays, note=piece.name)]


def _loop_of(found: Scan, name: str) -> dict[str, float]:
    """Area of the loop of an order parameter, the number of its jumps, and the largest jump if there is any."""
    jumps = found.jumps(name)
    values = {f"area/{name}": found.area(name), f"jumps/{name}": float(len(jumps))}
    if jumps:
        largest = max(jumps, key=lambda jump: abs(jump.size))
        reach = float(np.ptp(np.concatenate([found.up[name], found.down[name]])))
        values |= {f"largest/{name}": abs(largest.size) / reach, f"at/{name}": largest.before}
    return values
